package openai

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/call"
)

// hostAndModel is the default BudgetKey of the retry layer.
func hostAndModel(req *http.Request) string {
	if name := targetOf(req.URL.Path, modelOf(req)); name != "" {
		return req.URL.Host + " " + name
	}
	return req.URL.Host
}

// modelOf returns the model that a request asks for, "" if that is not known.
func modelOf(req *http.Request) string {
	if c := call.From(req.Context()); c != nil {
		return c.Model
	}
	return ""
}

// targetOf returns what a key is told apart by besides the host: one overloaded
// model does not stand for the others. Azure names a deployment in the path.
func targetOf(path, model string) string {
	if name := deployment(path); name != "" {
		return name
	}
	return model
}

// deployment returns NAME of a path with /deployments/NAME/.
func deployment(path string) string {
	_, rest, _ := strings.Cut(path, "/deployments/")
	name, _, ok := strings.Cut(rest, "/")
	if !ok || len(name) > maxModel {
		return ""
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}

// breakerKeys are the default Key of the breaker layer. It is asked for each
// attempt, so that the keys are made once.
type breakerKeys struct {
	latest atomic.Pointer[breakerKey] // most services call one model at a time
	mu     sync.RWMutex
	kept   map[origin]*breakerKey
}

type origin struct{ scheme, host, target string }

// A breakerKey is the key of an origin. Path and model are those of a request
// that it was made for: what has the same needs not be looked into again.
type breakerKey struct {
	origin

	path, model string
	key         string
}

// maxBreakerKeys bounds the keys that are kept; others are made anew.
const maxBreakerKeys = 1024

func (k *breakerKeys) of(req *http.Request) string {
	u, model := req.URL, modelOf(req)
	l := k.latest.Load()
	if l == nil || l.host != u.Host || l.scheme != u.Scheme ||
		(l.path != u.Path || l.model != model) && l.target != targetOf(u.Path, model) {
		l = k.find(u, model)
		k.latest.Store(l)
	}
	return l.key
}

func (k *breakerKeys) find(u *url.URL, model string) *breakerKey {
	o := origin{u.Scheme, u.Host, targetOf(u.Path, model)}
	k.mu.RLock()
	found := k.kept[o]
	k.mu.RUnlock()
	if found != nil {
		return found
	}
	made := &breakerKey{origin: o, path: u.Path, model: model, key: strings.ToLower(o.scheme + "://" + o.host)}
	if o.target != "" {
		made.key += " " + o.target
	}
	k.keep(made)
	return made
}

func (k *breakerKeys) keep(made *breakerKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = make(map[origin]*breakerKey)
	}
	if len(k.kept) < maxBreakerKeys {
		k.kept[made.origin] = made
	}
}
