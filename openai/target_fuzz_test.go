package openai

import (
	stdjson "encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/retry"
)

// FuzzRenaming holds that of a payload only the model's name changes, however it is
// written, and that whoever reads the new payload finds the new name.
func FuzzRenaming(f *testing.F) {
	for _, body := range []string{
		`{"model":"gpt-4o","messages":[]}`, `{"messages":["model"], "mod\u0065l" : "gpt-4o" }`, `{"model":"a","Model":"b"}`,
		`{"x":{"model":"in"},"model":"out"}`, "\ufeff{\"model\":\"g\"}", `{"model":"a\u0000\ud800","model ":1}`, `{"ＭＯＤＥＬ":"a","model":"b"}`,
		`{"model":"` + strings.Repeat("a", 127) + `","t":[1,{"model":"\"model\":"}]}`, `{"\u017fmodel":"a","model":"k"}`,
	} {
		f.Add([]byte(body), "llama", true)
		f.Add([]byte(body), "a\"b<\xff", false)
	}
	f.Fuzz(func(t *testing.T, data []byte, name string, shared bool) {
		var o operation
		o.call.Init(t.Context())
		o.reader.read(&o.call, data)
		plain := strings.TrimPrefix(string(data), "\ufeff")
		if !o.reader.named.renamable() || !o.reader.whole || !stdjson.Valid([]byte(plain)) || !shared && len(data) > smallPayload {
			return
		}
		open := func() (io.ReadCloser, error) {
			if shared {
				return payload.New(data).Open()
			}
			return io.NopCloser(strings.NewReader(string(data))), nil
		}
		body, _ := open()
		req := &http.Request{Body: body}
		if err := newRenaming(&o.reader.named, name).apply(req, open); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(req.Body)
		if err != nil || int64(len(got)) != req.ContentLength {
			t.Fatalf("%d bytes of %d: %v", len(got), req.ContentLength, err)
		}
		var before, after map[string]stdjson.RawMessage
		if err := stdjson.Unmarshal([]byte(plain), &before); err != nil {
			t.Fatalf("no object is renamable: %v", err)
		}
		if err := stdjson.Unmarshal([]byte(strings.TrimPrefix(string(got), "\ufeff")), &after); err != nil {
			t.Fatalf("the new payload is none: %v\n%q", err, got)
		}
		var read struct{ Model string }
		_ = stdjson.Unmarshal([]byte(strings.TrimPrefix(string(got), "\ufeff")), &read)
		if utf8.ValidString(name) && read.Model != name {
			t.Errorf("the new payload names %q, not %q: %q", read.Model, name, got)
		}
		delete(before, "model")
		delete(after, "model")
		if !maps.EqualFunc(before, after, func(a, b stdjson.RawMessage) bool { return string(a) == string(b) }) {
			t.Errorf("more than the name has changed: %q, then %q", data, got)
		}
	})
}

// FuzzTargetURL holds that a request to a target goes to its origin, below its path,
// with its query, whatever the model is called and the caller has asked for.
func FuzzTargetURL(f *testing.F) {
	f.Add("https://eu.example.com/openai/v1", "/v1/chat/completions?key=secret", "gpt")
	f.Add("https://az.example/openai/deployments/{model}?api-version=2", "/v1/embeddings", "../..//evil.example/?a#b")
	f.Add("http://[::1]:80/p%2Fq/", "/v1/messages?beta=true", "%2e%2e")
	f.Add("https://a.example/%7Bmodel%7D/x", "/v1/images/edits", "m\x00\n")
	f.Fuzz(func(t *testing.T, base, path, model string) {
		target := Target{BaseURL: base}
		caller, err := url.ParseRequestURI(path)
		if err != nil || base == "" || target.wrongBaseURL() != "" {
			return
		}
		caller.Scheme, caller.Host = "https", "home.example"
		req := &http.Request{Method: http.MethodPost, URL: caller, Header: http.Header{"Anthropic-Version": {"1"}}}
		place, err := placeOf(base)
		tail := tailOf(req)
		if err != nil || tail == "" {
			return
		}
		u, ok := place.url(tail, model, isBeta(caller.RawQuery))
		if !ok {
			return
		}
		want, _ := url.Parse(base)
		again, err := url.Parse(u.String())
		if err != nil || again.Host != want.Host || u.Host != want.Host || !strings.EqualFold(u.Scheme, want.Scheme) || u.User != nil || again.User != nil || again.Fragment != "" {
			t.Fatalf("%q makes %v (%v)", base, u, err)
		}
		if got := strings.TrimSuffix(strings.TrimPrefix(u.RawQuery, "&"), "beta=true"); strings.TrimSuffix(got, "&") != strings.TrimSuffix(strings.TrimSuffix(want.RawQuery, "beta=true"), "&") {
			t.Errorf("the query %q of %q has become %q", want.RawQuery, base, u.RawQuery)
		}
		segments := strings.Count(strings.TrimSuffix(want.EscapedPath(), "/"), "/") + 1 + strings.Count(tail, "/")
		if got := strings.Count(u.EscapedPath(), "/"); got != segments {
			t.Errorf("%q with %q is %d segments deep, not %d: %s", base, model, got, segments, u.EscapedPath())
		}
		if !strings.HasSuffix(u.EscapedPath(), "/"+tail) {
			t.Errorf("%q with %q leads to %s", base, model, u.EscapedPath())
		}
		if hasDotSegment(u.EscapedPath()) {
			t.Errorf("%q with %q leads up: %s", base, model, u.EscapedPath())
		}
	})
}

// FuzzJudge holds what is true of every row of the table of fail-over.
func FuzzJudge(f *testing.F) {
	for _, status := range []int{200, 307, 400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 529} {
		for _, code := range []string{"", "context_length_exceeded", "insufficient_quota", "Model_Not_Found"} {
			f.Add(status, code, uint8(0), int64(time.Second))
			f.Add(status, code, uint8(0xff), int64(time.Hour))
		}
	}
	f.Fuzz(func(t *testing.T, status int, code string, bits uint8, hint int64) {
		bit := func(n int) bool { return bits>>n&1 == 1 }
		own := bit(1)
		r := reply{status: status, codes: apiError{code: code}, first: bit(0), own: own, home: !own && bit(2), moved: bit(3), format: "chat"}
		r.quota, r.limited = bit(4), status == http.StatusTooManyRequests && !bit(4)
		r.outcome, r.reason = breaker.Ignored, retry.NotRetryable
		if status >= 500 || status == http.StatusRequestTimeout {
			r.outcome, r.reason = breaker.Failure, retry.ReasonServerError
		}
		repeats := bit(5)
		d := r.judge(func() bool { return repeats }, time.Duration(hint), bit(6), bit(7))
		account := r.quota || status == http.StatusPaymentRequired
		switch {
		case r.home && !account && (status == http.StatusUnauthorized || status == http.StatusForbidden) && d.step != settled:
			t.Errorf("a caller's own %d is moved on", status)
		case d.step == again && (d.spent || !r.limited && (status != http.StatusInternalServerError || !repeats)):
			t.Errorf("%d is asked again: %+v", status, d)
		case d.step == again && r.limited && (time.Duration(hint) > longestHold || bit(7)):
			t.Errorf("a limit of %v is waited out", time.Duration(hint))
		case (d.rests == targetRests || d.rests == modelRests) && !own, d.rests == callerRests && own:
			t.Errorf("%d has the wrong credential rest: %+v", status, d)
		case d.step == settled && d.rests != nothingRests:
			t.Errorf("%d settles the call, and something rests", status)
		case d.step == settled && (r.limited || account || r.reason != retry.NotRetryable):
			t.Errorf("%d is not moved on", status)
		case r.first && d.step == onward && !own && !account && !r.limited && r.reason == retry.NotRetryable && !r.codes.hasCode(contextCodes):
			t.Errorf("the first met says %d to the caller, who is not told", status)
		case d.renames && !r.codes.hasCode(contextCodes):
			t.Errorf("%d asks for another model", status)
		}
	})
}

// FuzzIsBound holds that no payload leaves home that names what is stored there, by
// what encoding/json finds in it.
func FuzzIsBound(f *testing.F) {
	for _, body := range []string{
		`{"messages":[{"role":"user","content":"file_id"}]}`, `{"messages":[{"audio":{"id":"a"}}]}`, `{"tools":[{"container" : "c"}]}`,
		"{\"previous_response_id\"\n:\t\"r\"}", `{"file\u005fid":"f"}`, `{"x":"\"file_id\":\"f\""}`, `{"vector_store_ids":["v"]}`, `{"container":{"type":"auto"}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var value any
		if stdjson.Unmarshal(data, &value) != nil {
			return
		}
		req := &http.Request{GetBody: func() (io.ReadCloser, error) { return payload.New(data).Open() }}
		if namesWhatIsStored(value) && !isBound(req) {
			t.Errorf("%q may go anywhere", data)
		}
	})
}

func namesWhatIsStored(value any) bool {
	switch v := value.(type) {
	case []any:
		return slices.ContainsFunc(v, namesWhatIsStored)
	case map[string]any:
		for key, member := range v {
			_, text := member.(string)
			_, list := member.([]any)
			if slices.Contains(boundTo[:], `"`+key+`"`) && (text || list) || namesWhatIsStored(member) {
				return true
			}
		}
	}
	return false
}
