package corpus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expectDefaults expects of each answer that the request is sent again until
// the last one, which passes unharmed.
func (x *Exchange) expectDefaults() {
	last := &x.Answers[len(x.Answers)-1]
	held := Complete
	if last.marked(Useful) {
		held = Useful
	}
	for i, returned := range []Mark{held, Headers, Complete} {
		w := Want{
			Requests: len(x.Answers), Returned: returned, Read: []string{"EOF"}, Ended: -1,
			Breaker: map[string]int{"success": 1}, Stream: map[string]int{}, ErrorType: []string{"none"},
		}
		if last.isStream() {
			w.Stream["complete"] = 1
		}
		x.Wants[i] = w
	}
}

// expect sets what a line says: one value for all deliveries, or three between
// slashes.
func (x *Exchange) expect(key, value string) error {
	values := strings.Split(value, " / ")
	if len(values) == 1 {
		values = []string{value, value, value}
	}
	if len(values) != len(x.Wants) {
		return errors.New("it needs one value, or three: FromFirstEvent / Immediate / Whole")
	}
	for i := range x.Wants {
		if err := x.Wants[i].set(key, strings.TrimSpace(values[i])); err != nil {
			return err
		}
	}
	return nil
}

func (w *Want) set(key, value string) (err error) {
	switch key {
	case "requests":
		w.Requests, err = strconv.Atoi(value)
	case "returned":
		i := slices.Index([]string{"headers", "useful", "complete", "any"}, value)
		if i < 0 {
			return errors.New("it is headers, useful, complete or any")
		}
		w.Returned = Mark(i)
	case "read":
		w.Read = strings.Split(value, "|")
	case "ended":
		w.Ended, err = time.ParseDuration(value)
	case "breaker":
		w.Breaker, err = counts(value)
	case "stream":
		w.Stream, err = counts(value)
	case "error.type":
		w.ErrorType = strings.Split(value, "|")
	case "paces":
		w.Paces = value
	default:
		return errors.New("nothing of that name can be expected")
	}
	return err
}

// counts reads "3 failure, success"; none is nothing, any is nil.
func counts(value string) (map[string]int, error) {
	all := map[string]int{}
	switch value {
	case "any":
		return nil, nil //nolint:nilnil // nil stands for any
	case "none":
		return all, nil
	}
	for part := range strings.SplitSeq(value, ", ") {
		n := 1
		if count, name, ok := strings.Cut(part, " "); ok {
			var err error
			if n, err = strconv.Atoi(count); err != nil {
				return nil, fmt.Errorf("%q is no number and outcome", part)
			}
			part = name
		}
		all[part] += n
	}
	return all, nil
}
