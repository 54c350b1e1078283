package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/retrip-go/retrip/internal/contract"
)

const (
	allWithin  = 3 * time.Minute // a process may take for all rules
	oneWithin  = time.Minute     // and for one
	atOneTime  = 4               // processes; most of them wait
	examineArg = "examine"
)

// uncounted are rules that say nothing against who breaks them, with the
// reason. A name is a rule or, with a star at its end, all that begin so.
var uncounted = []struct{ name, reason string }{
	{"the response/names the caller's request", "net/http leaves open which request a wrapper's response names"},
	{"the response/is one the base made, not a copy", "a copy does if its trailers arrive, which is a rule of its own"},
	{"a base that misbehaves/returns *", "http.RoundTripper forbids that to the base; no wrapper has to mend it"},
	{"the caller's request is unchanged/when the base misbehaves", "likewise"},
	{"the caller's body is closed exactly once/when the base misbehaves", "likewise"},
	{"a response given up/delays nothing when its Close is slow", "net/http's Close returns soon"},
	{"a response given up/delays no end of the context when its Close is slow", "likewise"},
	{"every attempt/offers its payload again by GetBody", "without a wrapper nobody would, for a caller who does not"},
	{"HTTP/2/a request refused by RST_STREAM is sent again whole", "likewise"},
	{"HTTP/2/a request above the last of a GOAWAY is sent again whole", "likewise"},
	{"memory/the payload is let go while the answer is still read", "nobody else speaks of it"},
	{"the context/is over with a cause, which the error shows", "an error that is the context's does"},
	{"Request.Cancel/*", "it is deprecated, and every caller has a context"},
	{"every attempt/is under way before a body is read that waits for it", "who buffers by design cannot"},
	{"the caller's body/of another length than ContentLength is an error before anything is sent", "net/http notices, too"},
}

func isCounted(rule string) bool {
	for _, u := range uncounted {
		if start, all := strings.CutSuffix(u.name, "*"); rule == u.name || all && strings.HasPrefix(rule, start) {
			return false
		}
	}
	return true
}

// A record is how one peer stands to all rules.
type record struct {
	peer   peer
	rules  []string          // that apply and count, in the suite's order
	broken map[string]string // rule to how
}

// examined puts the peers to the rules. Foreign code may hang, leak or bring
// its process down, so it works in processes with a deadline. What one process
// for all rules does not find kept is examined again in a process of its own,
// so that no rule pays for what another one left behind.
func examined(ctx context.Context, peers []peer) ([]record, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	places := make(chan struct{}, atOneTime)
	run := func(limit time.Duration, args ...string) (map[string]finding, string) {
		places <- struct{}{}
		defer func() { <-places }()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return findings(ctx, program, args...)
	}
	records := make([]record, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { records[i] = p.examine(run) })
	}
	wg.Wait()
	return records, context.Cause(ctx)
}

func (p peer) examine(run func(limit time.Duration, args ...string) (map[string]finding, string)) record {
	r := record{peer: p, broken: map[string]string{}}
	first, _ := run(allWithin, examineArg, p.name)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, rule := range contract.Rules(p.options...) {
		if !isCounted(rule.Name) {
			continue
		}
		r.rules = append(r.rules, rule.Name)
		if f, ok := first[rule.Name]; ok && f.Broken == "" {
			continue
		}
		wg.Go(func() {
			alone, end := run(oneWithin, examineArg, p.name, rule.Name)
			f, ok := alone[rule.Name]
			if ok && f.Broken == "" {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.broken[rule.Name] = cmp.Or(f.Broken, end)
		})
	}
	wg.Wait()
	return r
}

// findings runs the program and returns what it finds by rule, and how it ended.
func findings(ctx context.Context, program string, args ...string) (map[string]finding, string) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	found := map[string]finding{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var f finding
		if json.Unmarshal(lines.Bytes(), &f) == nil && f.Rule != "" { // others are not ours
			found[f.Rule] = f
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return found, "its process hangs"
	case err != nil:
		return found, "its process ends: " + err.Error() + ": " + firstLine(complaints.String())
	}
	return found, "the rule is not examined"
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
