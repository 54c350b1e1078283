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
// Organization and project belong to them, because providers that know these apply
// their limits to them. The names are in canonical form.
var credentials = [...]string{
	"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key",
	"Openai-Organization", "Openai-Project",
}

// queryCredentials are the parameters of a query that hold a credential, as Gemini
// and Azure accept it.
var queryCredentials = [...]string{"key", "api-key", "subscription-key"}

// accountSeed is the seed of the hash. It differs from process to process, so that a
// hash says nothing about a credential outside this one.
var accountSeed = maphash.MakeSeed()

// accountHash identifies an account by host, model, target and credential. Only the
// hash is kept: a credential must not stay in memory, or reach a log, on our
// account.
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

// A hash is a hash of a sequence of strings. It depends on their order and on where
// one ends.
type hash uint64

// add mixes in one more string. The multiplication keeps equal strings from
// cancelling each other out.
func (h *hash) add(s string) { *h = *h*0x9e3779b97f4a7c15 ^ hash(maphash.String(accountSeed, s)) }

// addCredentials mixes in the name of a header, too, so that one value in two
// headers makes two accounts. The map is read directly, since canonical names need
// no conversion.
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

// addQuery mixes in the credentials of a query. It splits the query by hand, because
// url.ParseQuery allocates for each call. Names and values stay escaped: one client
// writes its key in one way.
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

// credentialOf returns the part of a header's value that stays the same from call to
// call. AWS signs each request anew (Signature Version 4), so the signature would
// make each call an account of its own. The access key id names the signer.
func credentialOf(header int, value string) string {
	const aws = "AWS4-HMAC-SHA256 "
	if header != 0 || !strings.HasPrefix(value, aws) {
		return value
	}
	_, id, _ := strings.Cut(value[len(aws):], "Credential=")
	id, _, _ = strings.Cut(id, "/")
	return id
}

// lower is strings.ToLower without its cost for text that is in lower case already,
// as nearly all hosts are.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			return strings.ToLower(s)
		}
	}
	return s
}

// accountName returns what errors and snapshots show of an account. It holds no
// credential.
func accountName(u *url.URL, c *call.Subject) string {
	parts := []string{lower(u.Scheme) + "://" + shortened(lower(u.Host))}
	for _, part := range [...]string{c.Model, c.Target} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

// shortened bounds a host, which a caller may invent, and makes it valid UTF-8 for
// labels and JSON.
func shortened(host string) string {
	return strings.ToValidUTF8(host[:min(len(host), maxModel)], "\uFFFD")
}

// accounts holds the accounts that a Transport sends calls for. It is safe for
// concurrent use. A look-up of an account that was used lately takes no lock,
// because every call makes one.
type accounts struct {
	// max bounds the accounts, since callers choose credentials and models. It is
	// Breaker.MaxKeys.
	max  int
	make func(*http.Request, *call.Call) *account
	// lately is a small cache with one place for each residue of the key. Accounts
	// that share a place only lose speed.
	lately [64]atomic.Pointer[account]

	mu  sync.RWMutex
	all map[uint64]*account
}

// get returns the account of a request, and makes it if it is not known.
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

// find looks an account up under the read lock. It fills the cache under that lock,
// too. Otherwise an account that is forgotten in between would come back.
func (s *accounts) find(key uint64, slot *atomic.Pointer[account]) *account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.all[key]
	if a != nil {
		slot.Store(a)
	}
	return a
}

// add makes an account, unless another call has made it meanwhile. It makes room
// first, so that the bound holds at all times.
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

// forget removes the account that was used least lately, and one with a limit last.
// It looks through all of them, since it runs only when the table is full and a new
// account comes. Calls that wait for a forgotten account keep their place, because
// they hold the account itself.
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

// list returns all accounts, in no order. It copies them, so that its callers don't work
// under the lock.
func (s *accounts) list() []*account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*account, 0, len(s.all))
	for _, a := range s.all {
		all = append(all, a)
	}
	return all
}
