package openai

import (
	"encoding/json"
	"strconv"
	"strings"

	scan "github.com/retrip-go/retrip/internal/json"
)

// What follows reads JSON with encoding/json, to compare with.

// An errorSlowly is what JSON tells of an error.
type errorSlowly struct {
	outer, nested apiError
	marked        bool // it says that it is an error, but not which
	says          bool // its error object does
	inChoice      bool // a choice tells of one
}

func (e *errorSlowly) top(key string, value json.RawMessage) {
	switch {
	case key == "error" && value[0] == '{':
		e.nested, e.says = apiError{}, false
		fields, said := inOrder(value)
		for i := range fields {
			takeSlowly(&e.nested, fields[i], said[i])
			e.says = e.says || saysSomething(said[i])
		}
	case key == "error":
		e.marked = e.marked || value[0] == '"' && string(value) != `""`
	case key == "object" || key == "type":
		e.marked = e.marked || string(value) == `"error"`
		takeSlowly(&e.outer, key, value)
	case key == "error_type":
		e.outer.kind = labelSlowly(value)
	default:
		takeSlowly(&e.outer, key, value)
	}
}

func (e *errorSlowly) isError() bool { return e.marked || e.says }

// fails reports whether the answer is the error. One beside content is none,
// unless it is a choice's.
func (e *errorSlowly) fails(besideContent bool) bool {
	return e.inChoice || e.isError() && !besideContent
}

// elements returns those of a JSON array, nil if it is none.
func elements(data json.RawMessage) (all []json.RawMessage) {
	if json.Unmarshal(data, &all) != nil {
		return nil
	}
	return all
}

func isContainerSlowly(value json.RawMessage) bool { return value[0] == '{' || value[0] == '[' }

// countSlowly returns the number that digits stand for.
func countSlowly(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > scan.MaxCount {
		return 0, false
	}
	return int64(n), true
}

// modelSlowly returns the model's name that a JSON value stands for. One
// with more bytes than escapes could need is kept as it is written.
func modelSlowly(value []byte) string {
	var name string
	if json.Unmarshal(value, &name) != nil {
		return ""
	}
	if len(value) > 6*maxModel {
		name = string(value[1:])
	}
	if len(name) > maxModel {
		name = strings.ToValidUTF8(name[:maxModel], "")
	}
	return name
}
