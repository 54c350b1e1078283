package openai

import (
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/internal/call"
)

// hostAndModel is the default BudgetKey of the retry layer: one overloaded model
// takes no retries from the others.
func hostAndModel(req *http.Request) string {
	key := req.URL.Host
	if c := call.From(req.Context()); c != nil {
		for _, name := range [...]string{c.Model, c.Target} {
			if name != "" {
				key += " " + name
			}
		}
	}
	return key
}

// deployment returns NAME of a path with /deployments/NAME/, which is how Azure
// names a model, "" if there is none. The copy keeps no long path alive.
func deployment(path string) string {
	_, rest, _ := strings.Cut(path, "/deployments/")
	name, _, ok := strings.Cut(rest, "/")
	if !ok || len(name) > maxModel {
		return ""
	}
	return strings.ToValidUTF8(strings.Clone(name), "\uFFFD")
}
