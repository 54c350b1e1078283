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

// maxTargets bounds Config.Targets. A set of targets has 32 bits, so that a call can keep
// several without an allocation.
const maxTargets = 32

// A Target is a place that calls may go to, see [Config.Targets]. The zero value is
// where the request says, with the request as it is.
//
// A [Transport] copies the Target when it is made. Models, Authorize and Base are used
// by all its calls: do not change Models any more, and let Authorize and Base be safe
// for concurrent use.
type Target struct {
	// Name is the target's name in metrics, logs, breakers and reports. "" means
	// the host of BaseURL with its port, or "home" if that is empty. Names are unique,
	// since metrics and reports know a target by its name alone. WithSession depends on
	// it: a new name moves sessions. It has at most 128 bytes.
	Name string

	// BaseURL is what an SDK would have as its base URL there: it ends in /v1 or
	// the like, without the endpoint. "" means where the request says.
	//
	// Azure has the name of a deployment in the path. A BaseURL that ends in
	// /deployments/{model}?api-version=… serves any model: {model} stands for the name
	// that the model has there, which Models may map to the deployment's. A BaseURL that
	// ends in a fixed deployment, as /deployments/prod-4o?api-version=…, answers with
	// the model of that deployment whatever a payload says. Models must then list the
	// caller's models that it stands for, without "*": {"gpt-4o": ""}, where "" keeps
	// the payload as it is. Validate refuses it otherwise, because calls for all other
	// models would be answered by the wrong one.
	//
	// The request's own query is left behind, because it may hold a key; beta=true of
	// Anthropic's messages alone goes along. The query of BaseURL is sent instead. A
	// user in the URL is an error: credentials belong in Header.
	BaseURL string

	// Header is set on each request to the target: its credentials, and what else
	// it needs. A target that sets it gets none of the caller's headers but those
	// that Forward describes, so that no key reaches a provider that it is not for.
	// Host, Content-Length and the headers of a connection are errors.
	Header http.Header

	// Authorize completes each attempt, for tokens that expire and for signatures.
	// It is called last, with the URL and headers as they will be sent, since a
	// signature covers them. It may change Header and call GetBody; there is no Body.
	// What it changes of all else is not sent. Its time counts into AttemptTimeout, so
	// it should heed the request's context. If it fails or panics, nothing is sent and
	// the call goes on to the next target. After it has failed for three calls in a
	// row, calls pass the target over for a while.
	Authorize func(*http.Request) error

	// Forward names headers of the caller's request that go along to another
	// origin, and to a target with Header or Authorize, besides these: Content-Type,
	// Content-Encoding, Accept, User-Agent, Traceparent, Tracestate, of a payload
	// that is sent unchanged Idempotency-Key, and for Anthropic's messages
	// Anthropic-Version and Anthropic-Beta.
	Forward []string

	// Models are the names that models have there, by the caller's names. The caller's
	// name is the model in the payload, or a deployment in the path if the payload names
	// none. Nil means all models, under the same names. Otherwise only calls for models
	// that are keys go there. The key "*" is for all others, and an empty name keeps the
	// caller's. Embeddings follow "*" only where that keeps the name, because vectors of
	// another model are worse than an error. Nothing else in the payload is changed for a name.
	Models map[string]string

	// Tier orders the targets: those of a lower tier come first. Targets of one tier
	// share the calls by their Weight. A higher tier gets only calls that the lower ones
	// have failed or refused, as is right for a place that costs more. 0 is a tier like
	// any other, and a tier may be negative.
	Tier int

	// Weight is the target's share of its tier's calls, relative to the weights of
	// the others in the tier. 0 means 1, and negative is an error.
	Weight int

	// AttemptTimeout and FirstEventTimeout replace those of the [Config] for attempts
	// at this target. 0 means what the Config says, and negative means none. Without
	// a limit a silent target keeps its call.
	AttemptTimeout, FirstEventTimeout time.Duration

	// Base sends the requests to this target. Nil means the Transport's base. A
	// base that adds credentials, as an oauth2.Transport does, adds them for every
	// target that it serves: give each target with such credentials a Base of its
	// own, and the Transport a base without any.
	Base http.RoundTripper
}

// defaultTargetName is the name of a Target without a Name and a BaseURL.
const defaultTargetName = "home"

// targetError returns an error that names a target and its wrong field. It has the index,
// too, because the name may be made from the field that is wrong.
func targetError(i int, name, field string, value any, allowed string) error {
	return &ConfigError{fmt.Sprintf("Targets[%d] (%s).%s", i, name, field), value, allowed}
}

// validateTargets returns an error that names the first target and field out of its
// range. It shows no value of a header and no URL, since both may hold a key.
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

// validate checks all that concerns one target alone. What a request could not be sent
// with is an error here already, and not one of each call later.
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

// connectionHeaders are made by a base or belong to one connection (RFC 9110, section
// 7.6.1). A target's Header must not set them: they would contradict what is sent.
var connectionHeaders = map[string]bool{
	"Host": true, "Content-Length": true, "Connection": true, "Keep-Alive": true, "Proxy-Connection": true,
	"Proxy-Authenticate": true, "Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true, "Expect": true,
}

// isForwardable reports whether a header may be set on a request to a target.
func isForwardable(header string) bool {
	return !connectionHeaders[textproto.CanonicalMIMEHeaderKey(header)]
}

// wrongBaseURL says what BaseURL should be, or "" if nothing is wrong with it. It never
// quotes the URL, which may hold a key. An endpoint at its end is refused
// here, because it would otherwise show up only as a failure of every call.
// A deployment needs explicit models: it serves one, and would answer for any other.
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

// hasExplicitModels reports whether the target accepts none but named models.
func (t *Target) hasExplicitModels() bool {
	_, wild := t.Models["*"]
	return len(t.Models) > 0 && !wild
}

// deploymentOf returns NAME of a base path with /deployments/NAME. It is "" if there is
// none, or if NAME is {model}, which each request fills in.
func deploymentOf(path string) string {
	_, rest, _ := strings.Cut(path, "/deployments/")
	name, _, _ := strings.Cut(rest, "/")
	if name == modelInPath {
		return ""
	}
	return name
}

// hasDotSegment reports whether a path has a segment . or .., which servers and proxies
// resolve in different ways.
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// endsInEndpoint reports whether a base path ends in an endpoint that may be routed. The
// tail of each request is put behind it, so that it would be there twice.
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

// name returns the target's name as it is shown. It is valid UTF-8, since metrics and
// JSON need that, and shows nothing of a BaseURL but its host.
func (t *Target) name() string {
	if t.Name != "" {
		return strings.ToValidUTF8(t.Name, "\uFFFD")
	}
	if u, err := url.Parse(t.BaseURL); err == nil && u.Host != "" {
		return strings.ToLower(u.Host)
	}
	return defaultTargetName
}

// nameOf returns the name that a model has at the target, and whether the target accepts
// it. exact leaves "*" out unless it keeps the name, for calls that no other model may
// answer than one that is configured by name.
func (t *Target) nameOf(model string, exact bool) (name string, ok bool) {
	if t.Models == nil {
		return model, true
	}
	name, ok = t.Models[model]
	if !ok {
		name, ok = t.Models["*"]
		ok = ok && (!exact || name == "" || name == model)
	}
	if name == "" {
		name = model
	}
	return name, ok
}
