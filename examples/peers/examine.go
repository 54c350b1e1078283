package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/retrip-go/retrip/internal/contract"
)

// A finding is what became of one rule.
type finding struct {
	Rule   string
	Broken string `json:",omitempty"` // how; empty: the rule is kept
}

// examine puts a peer to one rule, or to all if rule is empty, prints the
// findings as they come and ends the process. The suite needs a testing.T for
// its virtual time, which there is outside of go test only in testing.Main.
func examine(p peer, rule string) {
	out := json.NewEncoder(os.Stdout)
	wrap := func(base http.RoundTripper) http.RoundTripper { return p.wrap(base, settings{}) }
	var tests []testing.InternalTest
	for _, r := range contract.Rules(p.options...) {
		if rule != "" && rule != r.Name {
			continue
		}
		tests = append(tests, testing.InternalTest{Name: r.Name, F: func(t *testing.T) {
			f := finding{Rule: r.Name}
			if err := r.Check(t, wrap); err != nil {
				f.Broken = err.Error()
			}
			if err := out.Encode(f); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}})
	}
	testing.Main(func(string, string) (bool, error) { return true, nil }, tests, nil, nil)
}
