package openai

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/internal/payload"
)

func TestValidateNamesTheTargetAndTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	const secret = "sk-secret"
	for field, targets := range map[string][]Target{
		"Targets[1] (home).Name":         {{}, {}},
		"Targets[1] (a).Name":            {{BaseURL: "https://A/v1"}, {Name: "a"}},
		"Targets[0] (home).Weight":       {{Weight: -1}},
		"Targets[0] (x).BaseURL":         {{Name: "x", BaseURL: "eu.example.com/v1"}},
		"Targets[0] (eu).BaseURL":        {{Name: "eu", BaseURL: "https://user:" + secret + "@eu.example.com/v1"}},
		"Targets[0] (f).BaseURL":         {{Name: "f", BaseURL: "https://eu.example.com/v1#part"}},
		"Targets[0] (tail).BaseURL":      {{Name: "tail", BaseURL: "https://eu.example.com/v1/chat/completions?key=" + secret}},
		"Targets[0] (emb).BaseURL":       {{Name: "emb", BaseURL: "https://eu.example.com/v1/embeddings/"}},
		"Targets[0] (dots).BaseURL":      {{Name: "dots", BaseURL: "https://eu.example.com/v1/../x"}},
		"Targets[0] (ftp).BaseURL":       {{Name: "ftp", BaseURL: "ftp://eu.example.com/v1"}},
		"Targets[0] (dep).BaseURL":       {{Name: "dep", BaseURL: "https://x.openai.azure.com/openai/deployments/gpt?api-version=1"}},
		"Targets[0] (mark).BaseURL":      {{Name: "mark", BaseURL: "https://x/v1#"}},
		"Targets[0] (wild).BaseURL":      {{Name: "wild", BaseURL: "https://x/openai/deployments/gpt", Models: map[string]string{"*": "gpt"}}},
		"Targets[0] (host).Header":       {{Name: "host", Header: http.Header{"host": {secret}}}},
		"Targets[0] (length).Header":     {{Name: "length", Header: http.Header{"Content-Length": {"1"}}}},
		"Targets[0] (hop).Header":        {{Name: "hop", Header: http.Header{"Connection": {"close"}}}},
		"Targets[0] (value).Header":      {{Name: "value", Header: http.Header{"Authorization": {"Bearer " + secret + "\r\nX: y"}}}},
		"Targets[0] (forward).Forward":   {{Name: "forward", Forward: []string{"transfer-encoding"}}},
		"Targets[0] (nothing).Forward":   {{Name: "nothing", Forward: []string{""}}},
		"Targets[0] ().Name":             {{Name: strings.Repeat("n", maxModel+1)}},
		"Targets":                        make([]Target, maxTargets+1),
		"Targets[1] (same.example).Name": {{BaseURL: "https://same.example/v1"}, {BaseURL: "https://same.example/v2"}},
	} {
		err := validateTargets(targets)
		var config *ConfigError
		if !errors.As(err, &config) || config.Field != field {
			t.Errorf("%s: %v", field, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells a secret: %v", field, err)
		}
	}
}

func TestValidateTakesTargetsThatAreFit(t *testing.T) {
	t.Parallel()
	if err := validateTargets([]Target{
		{},
		{BaseURL: "https://eu.example.com/openai/v1", Header: http.Header{"authorization": {"Bearer key"}}},
		{BaseURL: "https://x.openai.azure.com/openai/deployments/{model}?api-version=2024-10-21", Name: "azure"},
		{BaseURL: "https://y.openai.azure.com/openai/deployments/gpt?api-version=1", Models: map[string]string{"gpt-4o": "gpt"}},
		{BaseURL: "http://127.0.0.1:8000/", Tier: 1, Weight: 3, Forward: []string{"x-request-id"}},
		{BaseURL: "https://gateway.example/images/v1"},
	}); err != nil {
		t.Error(err)
	}
}

func TestAURLIsMadeAnewAndHoldsNothingOfTheCallers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ base, path, model, want string }{
		{"https://eu.example.com/openai/v1", "https://u:p@home/v1/chat/completions?key=secret#f", "m", "https://eu.example.com/openai/v1/chat/completions"},
		{"https://eu.example.com/v1/", "https://home/openai/deployments/gpt/chat/completions?api-version=1", "m", "https://eu.example.com/v1/chat/completions"},
		{"https://az.example/openai/deployments/{model}?api-version=2", "https://home/v1/embeddings", "a/b c", "https://az.example/openai/deployments/a%2Fb%20c/embeddings?api-version=2"},
		{"https://az.example/openai/deployments/{model}", "https://home/v1/embeddings", "gpt", "https://az.example/openai/deployments/gpt/embeddings"},
		{"https://a.example", "https://home/v1/messages?beta=true&key=secret", "m", "https://a.example/messages?beta=true"},
		{"https://a.example/v1?x=1", "https://home/v1/messages?a=b&beta=true", "m", "https://a.example/v1/messages?x=1&beta=true"},
		{"https://a.example/p%2Fq", "https://home/v1/images/generations", "m", "https://a.example/p%2Fq/images/generations"},
		{"https://a.example/v1", "https://home/v1/audio/speech/", "m", "https://a.example/v1/audio/speech"},
	} {
		place, err := placeOf(row.base)
		if err != nil {
			t.Fatal(err)
		}
		req := posted(t, row.path, http.Header{"Anthropic-Version": {"1"}})
		u, ok := place.url(tailOf(req), row.model, strings.HasSuffix(req.URL.Path, "/messages") && isBeta(req.URL.RawQuery))
		if !ok || u.String() != row.want || u.User != nil || u.Opaque != "" || u.Fragment != "" {
			t.Errorf("%s for %s: %v, want %s", row.base, row.path, u, row.want)
		}
	}
}

func TestAModelsNameNeverLeavesThePathItStandsIn(t *testing.T) {
	t.Parallel()
	place, _ := placeOf("https://az.example/openai/deployments/{model}")
	for _, name := range []string{"", ".", ".."} {
		if u, ok := place.url("embeddings", name, false); ok {
			t.Errorf("%q makes %v", name, u)
		}
	}
	for _, name := range []string{"../../x", "a?b", "a#b", "a%2fb", "//evil.example/"} {
		u, ok := place.url("embeddings", name, false)
		if !ok || u.Host != "az.example" || u.RawQuery != "" || strings.Count(u.EscapedPath(), "/") != 4 {
			t.Errorf("%q makes %v", name, u)
		}
	}
}

func TestPathsThatNoRowNamesHaveNoTail(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/v1/chat/completions": "chat/completions", "/v1/completions": "completions", "/rerank": "rerank",
		"/v1/responses": "", "/v1/files": "", "/v1/threads/t/messages": "", "/v1/messages": "", "/v1/unknown": "", "/": "",
		"/v1/images/..": "", "/v1/images/a%2Fb": "", "/v1/images/edits": "images/edits", "/v1/batches": "", "/v1/models/x": "",
	} {
		if got := tailOf(posted(t, "https://home"+path, nil)); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func posted(t testing.TB, target string, h http.Header) *http.Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Request{Method: http.MethodPost, URL: u, Header: h}
}

func TestOfACallersQueryBetaTrueAloneIsKnown(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"": false, "beta=true": true, "key=secret&beta=true": true, "beta=true&key=secret": true,
		"alphabeta=true": false, "beta=true1": false, "beta=false": false, "beta": false, "key=beta=true": false,
	} {
		if got := isBeta(query); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}

func TestOriginsDifferInSchemeHostOrPort(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		a, scheme, host string
		same            bool
	}{
		{"https://a.example/v1", "https", "a.example", true},
		{"https://A.example:443/v1", "https", "a.example", true},
		{"https://a.example", "http", "a.example", false},
		{"https://a.example", "https", "a.example:8443", false},
		{"https://a.example", "https", "b.a.example", false},
		{"https://a.example.", "https", "a.example", false},
		{"http://[::1]:80", "http", "[::1]", true},
	} {
		u, _ := url.Parse(row.a)
		if got := isOrigin(u, row.scheme, row.host); got != row.same {
			t.Errorf("%s and %s://%s: %v", row.a, row.scheme, row.host, got)
		}
	}
}

func FuzzNoHeaderOfTheCallersGoesAlongUnnamed(f *testing.F) {
	for _, name := range []string{
		"Authorization", "Cookie", "api-key", "X-Api-Key", "X-Goog-Api-Key", "OpenAI-Organization", "OpenAI-Project", "Proxy-Authorization",
		"X-Amz-Security-Token", "Referer", "X-Stainless-Retry-Count", "content-TYPE", "Host", "Accept-Encoding", "idempotency-key",
	} {
		f.Add(name, true, true)
		f.Add(name, false, false)
	}
	h := newTargetHeader(&Target{Header: http.Header{"authorization": {"Bearer own"}}, Forward: []string{"x-mine"}})
	allowed := slices.Concat(alongAlways, alongMessages, []string{alongUnchanged, "X-Mine"})
	f.Fuzz(func(t *testing.T, name string, messages, renamed bool) {
		callers := http.Header{name: {"secret"}}
		callers.Add(name, "secret")
		made := h.make(callers, messages, renamed)
		for got, values := range made {
			if slices.Contains(values, "secret") && (!slices.Contains(allowed, got) || renamed && got == alongUnchanged || !messages && slices.Contains(alongMessages, got)) {
				t.Errorf("%q went along as %q", name, got)
			}
		}
		if got := made["Authorization"]; len(got) != 1 || got[0] != "Bearer own" {
			t.Errorf("Authorization is %q", got)
		}
		made["Authorization"] = append(made["Authorization"], "another call's")
		if len(h.own["Authorization"]) != 1 || len(callers[name]) < 1 {
			t.Error("a call's headers are another's")
		}
	})
}

func TestAnAnswerOfAnotherOriginSetsNothingOfTheCallersOrigin(t *testing.T) {
	t.Parallel()
	bases := http.Header{
		"Set-Cookie": {"a=b"}, "set-cookie": {"c=d"}, "Clear-Site-Data": {"*"}, "Alt-Svc": {"h3"}, "Strict-Transport-Security": {"max-age=1"},
		"X-Request-Id": {"1"},
	}
	response := &http.Response{Header: bases}
	removeOriginsOwn(response)
	if len(response.Header) != 1 || response.Header.Get("X-Request-ID") != "1" || len(bases) != 6 {
		t.Errorf("left %v, the base's %v", response.Header, bases)
	}
}

func TestAModelIsRenamedAndNothingElse(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", 10<<10) + `"`
	for _, row := range []struct{ body, name, want string }{
		{`{"model":"gpt-4o","messages":[]}`, "llama", `{"model":"llama","messages":[]}`},
		{`{"messages":["model"], "mod\u0065l" : "gpt-4o" }`, `a"b`, `{"messages":["model"], "mod\u0065l" : "a\"b" }`},
		{`{"messages":[` + long + `],"model":"gpt-4o","n":1}`, "llama", `{"messages":[` + long + `],"model":"llama","n":1}`},
		{"\ufeff" + `{"model":"g"}`, "llama", "\ufeff" + `{"model":"llama"}`},
	} {
		var o operation
		o.call.Init(t.Context())
		o.reader.read(&o.call, []byte(row.body))
		if !o.reader.named.renamable() {
			t.Errorf("%.40s is not renamable", row.body)
			continue
		}
		open := func() (io.ReadCloser, error) { return payload.New([]byte(row.body)).Open() }
		body, _ := open()
		req := &http.Request{Body: body}
		if err := newRenaming(&o.reader.named, row.name).apply(req, open); err != nil {
			t.Fatal(err)
		}
		again, err := req.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []io.ReadCloser{req.Body, again} {
			got, err := io.ReadAll(body)
			if err != nil || string(got) != row.want || req.ContentLength != int64(len(row.want)) {
				t.Errorf("%.60s, %d bytes, %v; want %.60s, %d", got, req.ContentLength, err, row.want, len(row.want))
			}
			_ = body.Close()
		}
	}
}

func TestAPayloadWithoutExactlyOneModelIsNotRenamed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, `{"model":1}`, `{"model":null}`, `{"model":"a","model":"a"}`, `{"model":"a","Model":"b"}`, `{"MODEL":"a"}`, `{"model":{"model":"a"}}`,
		`["model"]`, `{"model":"` + strings.Repeat("a", 5000) + `"}`, `{"model":"` + strings.Repeat("a", 300) + `"}`, `{"model":""}`,
	} {
		var o operation
		o.call.Init(t.Context())
		o.reader.read(&o.call, []byte(body))
		if o.reader.named.renamable() {
			t.Errorf("%.40s is renamable", body)
		}
	}
}

// An end would tell net/http that it has sent all of the payload.
func TestAClosedBodyInPartsHasNoEnd(t *testing.T) {
	t.Parallel()
	body := &partsReader{parts: [3][]byte{[]byte("a"), []byte("b"), []byte("c")}}
	_, _ = body.Read(make([]byte, 1))
	_ = body.Close()
	if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestARenamedPayloadIsNotCopied(t *testing.T) {
	head, tail := `{"model":"gpt-4o","messages":["`, `"]}`
	data := []byte(head + strings.Repeat("x", 10<<20) + tail)
	var o operation
	o.call.Init(t.Context())
	o.reader.read(&o.call, data)
	shared := payload.New(data)
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			body, _ := shared.Open()
			req := &http.Request{Body: body}
			if err := newRenaming(&o.reader.named, "llama").apply(req, shared.Open); err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{req.Body})
		}
	})
	if got := result.AllocedBytesPerOp(); got > 64<<10 {
		t.Errorf("%d bytes are allocated for a payload of 10 MiB", got)
	}
}

func TestTiersComeInOrderAndWeightsShareThem(t *testing.T) {
	t.Parallel()
	o := newOrderer([]Target{{Name: "last", Tier: 2}, {Name: "a", Weight: 3}, {Name: "b"}, {Name: "next", Tier: 1}})
	chance := rand.New(rand.NewPCG(1, 2))
	first := map[uint8]int{}
	for range 10_000 {
		order := o.draw("", chance.Float64)
		if len(order) != 4 || order[2] != 3 || order[3] != 0 {
			t.Fatalf("order %v", order)
		}
		first[order[0]]++
	}
	if share := float64(first[1]) / 10_000; share < 0.73 || share > 0.77 {
		t.Errorf("a weight of 3 beside 1 comes first in %.3f", share)
	}
}

func TestOneTargetATierNeedsNoChance(t *testing.T) {
	t.Parallel()
	o := newOrderer([]Target{{Name: "b", Tier: 1}, {Name: "a"}})
	if got := o.draw("", func() float64 { t.Error("asked"); return 0 }); !slices.Equal(got, []uint8{1, 0}) {
		t.Errorf("order %v", got)
	}
}

func TestATargetThatGoesTakesOnlyItsOwnSessionsAlong(t *testing.T) {
	t.Parallel()
	all := newOrderer([]Target{{Name: "a"}, {Name: "b"}, {Name: "c", Weight: 2}})
	fewer := newOrderer([]Target{{Name: "a"}, {Name: "c", Weight: 2}})
	names := []string{"a", "c"}
	counts := map[string]int{}
	for i := range 8_000 {
		session := fmt.Sprintf("session-%d", i)
		was := all.names[all.draw(session, chance)[0]]
		counts[was]++
		if is := names[fewer.draw(session, chance)[0]]; was != "b" && is != was {
			t.Fatalf("%s went from %s to %s", session, was, is)
		}
		if again := all.names[all.draw(session, chance)[0]]; again != was {
			t.Fatalf("%s went from %s to %s by itself", session, was, again)
		}
	}
	for name, want := range map[string]int{"a": 2000, "b": 2000, "c": 4000} {
		if got := counts[name]; got < want-200 || got > want+200 {
			t.Errorf("%s has %d sessions, want about %d", name, got, want)
		}
	}
}

func TestATargetRestsAfterTheSecondRefusalOfDifferentCalls(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var r rests
	k, other := restKey{target: 1}, restKey{target: 1, model: "m"}
	r.refused(k, 7, refusalsToRest, now)
	r.refused(k, 7, refusalsToRest, now)
	if r.resting(k, now) {
		t.Fatal("one call makes it rest")
	}
	r.succeeded(k)
	r.refused(k, 8, refusalsToRest, now)
	if r.resting(k, now) {
		t.Fatal("a success between them does not count")
	}
	call := uint64(9)
	for _, minutes := range []int{1, 2, 4, 8, 15, 15} {
		r.refused(k, call, refusalsToRest, now)
		call++
		if !r.resting(k, now) || r.resting(other, now) {
			t.Fatal("it does not rest, or its model does")
		}
		r.refused(k, call, refusalsToRest, now.Add(1)) // of a call that was under way
		call++
		over := now.Add(time.Duration(minutes) * time.Minute)
		if !r.resting(k, over.Add(-1)) || len(r.of(1, over.Add(-1))) != 1 || len(r.of(1, over)) != 0 {
			t.Fatalf("it does not rest for %d minutes", minutes)
		}
		if r.resting(k, over) || !r.resting(k, over) {
			t.Fatalf("after %d minutes not exactly one call tries", minutes)
		}
		now = over
	}
	if r.resting(k, now.Add(firstRest)) {
		t.Error("a call that tries and is never heard of again keeps all others away")
	}
	r.succeeded(k)
	if r.resting(k, now) || r.count.Load() != 0 {
		t.Error("it rests after a success")
	}
}

func TestRestsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var r rests
	for i := range 2 * maxRests {
		r.refused(restKey{target: 1, model: strconv.Itoa(i)}, uint64(i), 1, now.Add(time.Duration(i)))
	}
	if got := len(r.all); got != maxRests {
		t.Errorf("%d are kept", got)
	}
	for i := range 2 * maxRests {
		if _, kept := r.all[restKey{target: 1, model: strconv.Itoa(i)}]; kept != (i >= maxRests) {
			t.Fatalf("of %d, one after the other, number %d is kept: %v", 2*maxRests, i, kept)
		}
	}
}

func TestAKeyThatHasNotRestedYetIsForgottenFirst(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var r rests
	for i := range maxRests + 1 {
		threshold := 1
		if i == maxRests/2 {
			threshold = 2
		}
		r.refused(restKey{target: 1, model: strconv.Itoa(i)}, uint64(i), threshold, now)
	}
	if _, kept := r.all[restKey{target: 1, model: strconv.Itoa(maxRests / 2)}]; kept || len(r.all) != maxRests {
		t.Errorf("it is kept: %v, of %d", kept, len(r.all))
	}
}

func TestATargetTakesTheModelsThatItNames(t *testing.T) {
	t.Parallel()
	models := map[string]string{"gpt-4o": "llama", "same": "", "*": "any"}
	for _, row := range []struct {
		models map[string]string
		model  string
		exact  bool
		name   string
		ok     bool
	}{
		{nil, "gpt-4o", true, "gpt-4o", true},
		{models, "gpt-4o", true, "llama", true},
		{models, "same", false, "same", true},
		{models, "other", false, "any", true},
		{models, "other", true, "other", false},
		{map[string]string{"*": ""}, "other", true, "other", true},
		{map[string]string{}, "gpt-4o", false, "gpt-4o", false},
	} {
		target := Target{Models: row.models}
		if name, ok := target.nameOf(row.model, row.exact); ok != row.ok || ok && name != row.name {
			t.Errorf("%q, exact %v: %q, %v", row.model, row.exact, name, ok)
		}
	}
}

// Some twenty failures of calls that come one after the other are an outage, and a
// few are none.
func TestAShareIsHighOnceHalfOfTheLatestOutcomesAreFailures(t *testing.T) {
	t.Parallel()
	var s failureShare
	for n := range 22 {
		if s.isHigh() {
			t.Fatalf("%d failures are enough", n)
		}
		s.failed()
	}
	if !s.isHigh() {
		t.Error("22 failures are not enough")
	}
	if s.succeeded(); s.isHigh() {
		t.Error("a success changes nothing")
	}
}
