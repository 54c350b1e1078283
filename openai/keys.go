package openai

import (
	"net/http"
	"slices"
	"strings"

	"github.com/retrip-go/retrip/internal/call"
)

// hostAndModel is the default BudgetKey of the retry layer: one overloaded model
// takes no retries from the others. With targets the name of the target belongs to it,
// since two targets may be accounts at one host. A request that did not come through a
// Transport of this package has no more than a host.
func hostAndModel(req *http.Request) string {
	c := call.From(req.Context())
	if c == nil {
		return req.URL.Host
	}
	about := call.SubjectOf(req.Context(), c)
	return words(req.URL.Host, about.Model, about.Target)
}

// words returns the names that there are, with a space between them.
func words(names ...string) string {
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return name == "" }), " ")
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
