package openai

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/call"
)

// A Call is what is known of a call from its request.
type Call struct {
	Endpoint string // "chat", "embeddings", …; "other" if it is none of those known
	Model    string // as requested; "" if the payload names none or was not read
	Stream   bool   // the payload asks for a stream
}

// CallFrom returns the call that a request belongs to, by the context of the
// request as Policy, Safe, Key, Observe and the base RoundTripper see it.
// False means that it did not come through a Transport of this package.
func CallFrom(ctx context.Context) (Call, bool) {
	c := call.From(ctx)
	if c == nil || c.Endpoint == "" {
		return Call{}, false
	}
	return Call{Endpoint: c.Endpoint, Model: c.Model, Stream: c.Stream}, true
}

// readPayload fills in what the payload says.
func readPayload(c *call.Call, payload []byte) {
	var store storeScan
	whole := members(payload, func(key, value []byte) {
		store.member(key, value)
		switch string(key) {
		case "model":
			c.Model = modelName(value)
		case "stream":
			c.Stream = string(value) == "true"
		}
	})
	c.Stateless = c.Endpoint == "responses" && store.stateless(whole)
}

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

// breakerKeys are the default Key of the breaker layer. It is asked for each
// attempt, so that the keys are made once.
type breakerKeys struct {
	latest atomic.Pointer[madeKey] // most services call one model at a time
	mu     sync.RWMutex
	made   map[origin]*madeKey
}

type origin struct{ scheme, host, target string }

// A madeKey is a key with what a request was like that it was made for.
type madeKey struct {
	scheme, host, path, model string

	key string
}

// maxBreakerKeys bounds the keys that are kept; others are made anew.
const maxBreakerKeys = 1024

func (k *breakerKeys) of(req *http.Request) string {
	u, model := req.URL, modelOf(req)
	l := k.latest.Load()
	if l == nil || l.model != model || l.host != u.Host || l.path != u.Path || l.scheme != u.Scheme {
		l = k.find(u, model)
		k.latest.Store(l)
	}
	return l.key
}

func (k *breakerKeys) find(u *url.URL, model string) *madeKey {
	o := origin{u.Scheme, u.Host, targetOf(u.Path, model)}
	k.mu.RLock()
	made := k.made[o]
	k.mu.RUnlock()
	if made == nil {
		made = k.make(o, &madeKey{scheme: u.Scheme, host: u.Host, path: u.Path, model: model})
	}
	return made
}

func (k *breakerKeys) make(o origin, m *madeKey) *madeKey {
	m.key = strings.ToLower(o.scheme + "://" + o.host)
	if o.target != "" {
		m.key += " " + o.target
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made == nil {
		k.made = make(map[origin]*madeKey)
	}
	if len(k.made) < maxBreakerKeys {
		k.made[o] = m
	}
	return m
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
