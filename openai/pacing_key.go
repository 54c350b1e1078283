package openai

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/call"
)

// credentials are the headers that say whose account a call is charged to.
// Providers that know organizations and projects limit those.
var credentials = [...]string{
	"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key",
	"Openai-Organization", "Openai-Project",
}

// queryCredentials are the parameters of a query that do (Gemini, Azure).
var queryCredentials = [...]string{"key", "api-key", "subscription-key"}

// accountSeed keeps the hash of a credential from meaning anything outside this
// process.
var accountSeed = maphash.MakeSeed()

// accountHash tells accounts apart: by host, model, target and credential, which
// is kept nowhere.
func accountHash(req *http.Request, c *call.Call) uint64 {
	var h hash
	h.add(lower(req.URL.Scheme))
	h.add(lower(req.URL.Host))
	about := call.SubjectOf(req.Context(), c)
	h.add(about.Model)
	h.add(about.Target)
	h.addCredentials(req.Header, req.URL.RawQuery)
	return uint64(h)
}

// A hash is one of a row of strings.
type hash uint64

func (h *hash) add(s string) { *h = *h*0x9e3779b97f4a7c15 ^ hash(maphash.String(accountSeed, s)) }

func (h *hash) addCredentials(header http.Header, query string) {
	for i, name := range &credentials {
		if values := header[name]; len(values) > 0 {
			h.add(name)
			h.add(credentialOf(i, values[0]))
		}
	}
	if query != "" {
		h.addQuery(query)
	}
}

func (h *hash) addQuery(query string) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		for _, known := range &queryCredentials {
			if name == known {
				h.add(name)
				h.add(value)
			}
		}
	}
}

// credentialOf returns the part of a header's value that stays the same: AWS
// signs each request anew (Signature Version 4), with the key of an access key
// id.
func credentialOf(header int, value string) string {
	const aws = "AWS4-HMAC-SHA256 "
	if header != 0 || !strings.HasPrefix(value, aws) {
		return value
	}
	_, id, _ := strings.Cut(value[len(aws):], "Credential=")
	id, _, _ = strings.Cut(id, "/")
	return id
}

// lower is strings.ToLower without its price for what is in lower case already.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			return strings.ToLower(s)
		}
	}
	return s
}

// accountName returns what is shown of an account: no credential.
func accountName(u *url.URL, c *call.Subject) string {
	parts := []string{lower(u.Scheme) + "://" + shortened(lower(u.Host))}
	for _, part := range [...]string{c.Model, c.Target} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

// shortened bounds a host, which a caller may invent.
func shortened(host string) string {
	return strings.ToValidUTF8(host[:min(len(host), maxModel)], "\uFFFD")
}

// accounts are those that a Transport sends calls for. A look-up of one that was
// used lately takes no lock.
type accounts struct {
	max    int
	make   func(*http.Request, *call.Call) *account
	lately [64]atomic.Pointer[account]

	mu  sync.RWMutex
	all map[uint64]*account
}

// get returns the account of a request, a new one if it is not known.
func (s *accounts) get(req *http.Request, c *call.Call) *account {
	key := accountHash(req, c)
	slot := &s.lately[key%uint64(len(s.lately))]
	if a := slot.Load(); a != nil && a.key == key {
		return a
	}
	if a := s.find(key, slot); a != nil {
		return a
	}
	return s.add(key, req, c)
}

func (s *accounts) find(key uint64, slot *atomic.Pointer[account]) *account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.all[key]
	if a != nil {
		slot.Store(a) // under the lock, so that what is forgotten does not come back
	}
	return a
}

func (s *accounts) add(key uint64, req *http.Request, c *call.Call) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.all[key]; a != nil {
		return a
	}
	if s.all == nil {
		s.all = make(map[uint64]*account)
	}
	if len(s.all) >= s.max {
		s.forget()
	}
	a := s.make(req, c)
	a.key = key
	s.all[key] = a
	return a
}

// forget removes the account that was used least lately, one with a limit last.
// Who waits for one that is forgotten goes on to wait.
func (s *accounts) forget() {
	var oldest *account
	for _, a := range s.all {
		if oldest == nil || a.olderThan(oldest) {
			oldest = a
		}
	}
	delete(s.all, oldest.key)
	s.lately[oldest.key%uint64(len(s.lately))].CompareAndSwap(oldest, nil)
}

// list returns all accounts, in no order.
func (s *accounts) list() []*account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*account, 0, len(s.all))
	for _, a := range s.all {
		all = append(all, a)
	}
	return all
}
