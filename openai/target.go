package openai

import (
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// maxTargets bounds Config.Targets.
const maxTargets = 32

// A Target is a place that calls may go to. The zero value is where the request
// says, as the request is. A Transport copies it; Authorize and Base must be safe
// for concurrent use.
type Target struct {
	// Name is the target's name in metrics, logs, breakers and reports. "" means
	// the host of BaseURL, or "home" if that is empty. Names are unique.
	Name string

	// BaseURL is what an SDK would have as its base URL there: it ends in /v1 or
	// the like, without the endpoint. Azure's may end in
	// /deployments/{model}?api-version=…, where {model} stands for the name that
	// the model has there. "" means where the request says.
	BaseURL string

	// Header is set on each request to the target: its credentials, and what else
	// it needs. A target that sets it gets none of the caller's headers but those
	// that Forward describes.
	Header http.Header

	// Authorize completes each attempt, for tokens that expire and for signatures.
	// It is called last, with the URL and headers as they will be sent. It may
	// change Header and call GetBody; there is no Body. What it changes of all else
	// is not sent. Its time counts into AttemptTimeout. If it fails or panics
	// nothing is sent, and the call goes on to the next target.
	Authorize func(*http.Request) error

	// Forward names headers of the caller's request that go along to another
	// origin, and to a target with Header or Authorize, besides these: Content-Type,
	// Content-Encoding, Accept, User-Agent, Traceparent, Tracestate, of a payload
	// that is sent unchanged Idempotency-Key, and for Anthropic's messages
	// Anthropic-Version and Anthropic-Beta.
	Forward []string

	// Models are the names that models have there, by the caller's names. Nil means
	// all models, under the same names. Else only those that are keys may go there;
	// the key "*" is for all others, and an empty name keeps the caller's.
	// Embeddings never follow "*", because vectors of another model are worse than
	// an error.
	Models map[string]string

	// Tier says who comes first: targets of a lower one. Those of one tier share
	// the calls by their Weight.
	Tier int

	// Weight is the target's share of its tier's calls, relative to the weights of
	// the others. 0 means 1; negative is an error.
	Weight int

	// AttemptTimeout and FirstEventTimeout are those of Config for attempts at this
	// target. 0 means what the Config says, negative means none.
	AttemptTimeout, FirstEventTimeout time.Duration

	// Base sends the requests to this target. Nil means the Transport's base. A
	// base that adds credentials, as an oauth2.Transport does, adds them for every
	// target that it serves: give each target with such credentials a Base of its
	// own, and the Transport a base without any.
	Base http.RoundTripper
}

// defaultTargetName is that of the Target that is where the request says.
const defaultTargetName = "home"

// A targetError names a target and the field that is wrong with it.
func targetError(i int, name, field string, value any, allowed string) error {
	return &ConfigError{fmt.Sprintf("Targets[%d] (%s).%s", i, name, field), value, allowed}
}

// validateTargets returns an error that names the first target and field out of its
// range. It shows no value of a header, and no query of a URL.
func validateTargets(targets []Target) error {
	if len(targets) > maxTargets {
		return &ConfigError{"Targets", fmt.Sprintf("a list of %d", len(targets)), "of at most " + strconv.Itoa(maxTargets)}
	}
	seen := make(map[string]bool, len(targets))
	for i := range targets {
		t := &targets[i]
		name := t.name()
		if err := t.validate(i, name); err != nil {
			return err
		}
		if seen[name] {
			return targetError(i, name, "Name", strconv.Quote(name), "a name that no other target has")
		}
		seen[name] = true
	}
	return nil
}

func (t *Target) validate(i int, name string) error {
	if len(name) > maxModel {
		return targetError(i, "", "Name", "too long", "at most "+strconv.Itoa(maxModel)+" bytes")
	}
	if t.Weight < 0 {
		return targetError(i, name, "Weight", t.Weight, "0 for 1, or more")
	}
	if wrong := t.wrongBaseURL(); wrong != "" {
		return targetError(i, name, "BaseURL", "not usable", wrong)
	}
	for header, values := range t.Header {
		if !isForwardable(header) || roundtrip.IsMalformedHeader(http.Header{header: values}) {
			return targetError(i, name, "Header", strconv.Quote(header), "names and values of HTTP headers, without Host, Content-Length and those of a connection")
		}
	}
	for _, header := range t.Forward {
		if !isForwardable(header) || roundtrip.IsMalformedHeader(http.Header{header: nil}) {
			return targetError(i, name, "Forward", strconv.Quote(header), "names of HTTP headers, without Host, Content-Length and those of a connection")
		}
	}
	return nil
}

// connectionHeaders are made by a base or belong to one connection (RFC 9110,
// section 7.6.1).
var connectionHeaders = map[string]bool{
	"Host": true, "Content-Length": true, "Connection": true, "Keep-Alive": true, "Proxy-Connection": true,
	"Proxy-Authenticate": true, "Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true, "Expect": true,
}

func isForwardable(header string) bool {
	return !connectionHeaders[textproto.CanonicalMIMEHeaderKey(header)]
}

// wrongBaseURL says what BaseURL should be, "" if it is.
func (t *Target) wrongBaseURL() string {
	if t.BaseURL == "" {
		return ""
	}
	u, err := url.Parse(t.BaseURL)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		return "a URL with http or https and a host"
	case u.User != nil:
		return "a URL without a user: credentials belong in Header"
	case strings.Contains(t.BaseURL, "#"):
		return "a URL without a fragment"
	case hasDotSegment(u.Path):
		return "a URL without . and .. in its path"
	case endsInEndpoint(u.Path):
		return "the base URL alone, without the endpoint"
	case deploymentOf(u.Path) != "" && !t.hasExplicitModels():
		return "/deployments/{model}, or Models whose keys are explicit"
	}
	return ""
}

// hasExplicitModels reports whether the target takes named models only.
func (t *Target) hasExplicitModels() bool {
	_, wild := t.Models["*"]
	return len(t.Models) > 0 && !wild
}

// deploymentOf returns NAME of a base path with /deployments/NAME; "" if there is
// none or it stands for the model.
func deploymentOf(path string) string {
	_, rest, _ := strings.Cut(path, "/deployments/")
	name, _, _ := strings.Cut(rest, "/")
	if name == modelInPath {
		return ""
	}
	return name
}

func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// endsInEndpoint reports whether a base path has the tail of an endpoint that is
// repeated: the tail of each request is put behind it.
func endsInEndpoint(path string) bool {
	rest, tail := cutLast(strings.TrimSuffix(path, "/"))
	_, parent := cutLast(rest)
	for i := range endpoints {
		r := &endpoints[i]
		if r.repeat && r.tail != "*" && r.tail == tail && (r.parent == "" || r.parent == parent) {
			return true
		}
	}
	return false
}

// name returns the target's name as it is shown.
func (t *Target) name() string {
	if t.Name != "" {
		return strings.ToValidUTF8(t.Name, "\uFFFD")
	}
	if u, err := url.Parse(t.BaseURL); err == nil && u.Host != "" {
		return strings.ToLower(u.Host)
	}
	return defaultTargetName
}

// nameOf returns the name that a model has at the target, and whether the target
// takes it. exact is for calls that may not be answered by another model than one
// that is named.
func (t *Target) nameOf(model string, exact bool) (name string, ok bool) {
	if t.Models == nil {
		return model, true
	}
	name, ok = t.Models[model]
	if !ok && !exact {
		name, ok = t.Models["*"]
	}
	if name == "" {
		name = model
	}
	return name, ok
}
