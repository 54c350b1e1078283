package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func get(t *testing.T, h http.Handler, method, path, accept string) *http.Response {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Result()
}

func bodyOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// fixed serves what is given, at noon.
func fixed(s retrip.Snapshot, changes ...breaker.StateChange) http.Handler {
	h := &handler{snapshot: func() retrip.Snapshot { return s }, changes: new(Changes), now: func() time.Time { return noon }}
	for _, c := range changes {
		h.changes.Add(c)
	}
	return h.routes()
}

// An element is one of a page, with the text of all that is in it.
type element struct{ name, class, text string }

// elements reads a page strictly, as the XML that it also is, and returns its
// elements in the order in which they begin.
func elements(t *testing.T, page string) []element {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(page))
	decoder.Entity = xml.HTMLEntity
	var all []element
	var open []int
	for {
		token, err := decoder.Token()
		switch {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%v in\n%s", err, page)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local}
			for _, a := range token.Attr {
				if a.Name.Local == "class" {
					e.class = a.Value
				}
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" {
					t.Errorf("<%s> has %s", e.name, a.Name.Local)
				}
			}
			for _, i := range open {
				if e.name == "dd" || e.name == "br" {
					all[i].text += " " // they begin a column or a line
				}
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.CharData:
			for _, i := range open {
				all[i].text += string(token)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// texts returns what the elements of a kind say, with single spaces.
func texts(all []element, name, class string) []string {
	var found []string
	for _, e := range all {
		if e.name == name && (class == "" || slices.Contains(strings.Fields(e.class), class)) {
			found = append(found, strings.Join(strings.Fields(e.text), " "))
		}
	}
	return found
}

func TestPageTellsOfEachBreakerAndTheWorstFirst(t *testing.T) {
	t.Parallel()
	h := fixed(retrip.Snapshot{Breakers: []breaker.Snapshot{
		{
			Key: "https://a closed", Since: noon.Add(-90 * time.Second), Successes: 70, Failures: 3, ConsecutiveFailures: 2,
			Totals: breaker.Totals{Success: 700, Failure: 30},
		},
		{
			Key: "https://c open", State: breaker.Open, Since: noon.Add(-12 * time.Second), ProbeAt: noon.Add(18 * time.Second), Seq: 1,
			Totals: breaker.Totals{Success: 1, Failure: 5, Ignored: 4, Rejected: 3, Stale: 6},
		},
		{Key: "https://d waiting", State: breaker.HalfOpen, Since: noon},
		{Key: "https://e probing", State: breaker.HalfOpen, Since: noon, Probes: 1},
	}, Pacing: []retrip.PacingSnapshot{{Key: "https://b limited", PausedUntil: noon.Add(2500 * time.Millisecond), Rate: 12.345, Waiting: 7}}}, breaker.StateChange{
		Key: "https://c open", From: breaker.Closed, To: breaker.Open, At: noon.Add(-12 * time.Second), Seq: 1, Reason: "failures_in_a_row",
	}, breaker.StateChange{
		Key: "https://e probing", From: breaker.Open, To: breaker.HalfOpen, At: noon, Seq: 2, Reason: "open_duration_over",
	})
	resp := get(t, h, http.MethodGet, "/", "text/html,application/xhtml+xml,*/*;q=0.8")
	body := bodyOf(t, resp)
	if got := resp.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	if got := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'") {
		t.Errorf("Content-Security-Policy is %q", got)
	}
	if !strings.Contains(body, `<meta name="viewport" content="width=device-width, initial-scale=1"/>`) {
		t.Error("a phone would show it as wide as a desk")
	}
	all := elements(t, body)
	for _, want := range []struct {
		name, class string
		texts       []string
	}{
		{"h1", "", []string{"Circuit breakers: 1 open, 2 half open, 1 closed; rate limits: 1"}},
		{"article", "", []string{
			"https://c open open · probes in 18s open since 11:59:48, for 12s in all 1 succeeded, 5 failed, 4 ignored, 3 rejected, 6 too late",
			"https://d waiting half open · the next request is a probe half open since 12:00:00, for 0s in all 0 succeeded, 0 failed",
			"https://e probing half open · probes under way: 1 half open since 12:00:00, for 0s in all 0 succeeded, 0 failed",
			"https://a closed closed closed since 11:58:30, for 1m30s lately 70 succeeded, 3 failed, 2 in a row in all 700 succeeded, 30 failed",
			"https://b limited rate limited · for another 3s, 12.3 calls a second, 7 waiting",
		}},
		{"li", "", []string{
			"12:00:00 open → half open it is time to try again https://e probing",
			"11:59:48 closed → open several calls failed in a row https://c open",
		}},
	} {
		if got := texts(all, want.name, want.class); !slices.Equal(got, want.texts) {
			t.Errorf("<%s>:\n%s\nbut want\n%s", want.name, strings.Join(got, "\n"), strings.Join(want.texts, "\n"))
		}
	}
}

func TestPageTellsOfEachTargetWhyItIsAvoidedAndSinceWhenItWasWell(t *testing.T) {
	t.Parallel()
	well := noon.Add(-90 * time.Second)
	h := fixed(retrip.Snapshot{Targets: []retrip.TargetSnapshot{
		{Name: "home", LastWell: noon},
		{Name: "dead", Open: 2, LastWell: well, LastFailed: noon.Add(-3 * time.Second), LastError: "503"},
		{Name: "tried", HalfOpen: 1, LastWell: well, LastFailed: noon.Add(-3 * time.Second), LastError: "connection_error"},
		{Name: "refusing", Rests: []retrip.RestSnapshot{{Until: noon.Add(time.Minute)}, {Model: "m<b>", Until: noon.Add(time.Minute)}}, LastFailed: noon, LastError: "401"},
		{Name: "limited", Rate: 2.5, Waiting: 3, LastWell: noon, LastFailed: noon, LastError: "_OTHER"},
	}})
	want := []string{
		"home takes calls last well 0s ago",
		"dead is avoided · 2 breakers open last well 1m30s ago last failure 3s ago: it answered 503 Service Unavailable",
		"tried is being tried · 1 breaker half open last well 1m30s ago last failure 3s ago: the connection failed",
		`refusing rests · its credentials are refused, one call tries in 1m0s; it does not have "m<b>", one call tries in 1m0s last well not yet last failure 0s ago: it answered 401 Unauthorized`,
		"limited is rate limited · 2.5 calls a second, 3 waiting last well 0s ago last failure 0s ago: nothing could be sent to it, or its answer was none",
	}
	if got := texts(elements(t, bodyOf(t, get(t, h, http.MethodGet, "/", ""))), "article", "target"); !slices.Equal(got, want) {
		t.Errorf("%s\nbut want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPageWithoutBreakers(t *testing.T) {
	t.Parallel()
	h := fixed(retrip.Snapshot{Breakers: []breaker.Snapshot{}, Pacing: []retrip.PacingSnapshot{}, Targets: []retrip.TargetSnapshot{}})
	page := elements(t, bodyOf(t, get(t, h, http.MethodGet, "/", "")))
	if got := texts(page, "h1", ""); !slices.Equal(got, []string{"Circuit breakers: no requests yet"}) {
		t.Error(got)
	}
	want := `{"at":"2026-01-02T12:00:00Z","breakers":[],"pacing":[],"targets":[],"transitions":[]}`
	if got := strings.Join(strings.Fields(bodyOf(t, get(t, h, http.MethodGet, "/breakers.json", ""))), ""); got != want {
		t.Errorf("%s\nbut want\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	snapshot := breaker.Snapshot{
		Key: "https://a m", State: breaker.Open, Since: noon.Add(-time.Second), Seq: 1, ProbeAt: noon.Add(time.Second),
		Totals: breaker.Totals{Success: 1, Failure: 5, Rejected: 3},
	}
	target := retrip.TargetSnapshot{Name: "home"}
	limit := retrip.PacingSnapshot{Key: "https://a n", PausedUntil: noon.Add(time.Second)}
	h := fixed(retrip.Snapshot{Breakers: []breaker.Snapshot{snapshot}, Pacing: []retrip.PacingSnapshot{limit}, Targets: []retrip.TargetSnapshot{target}}, breaker.StateChange{
		Key: "https://a m", From: breaker.Closed, To: breaker.Open, At: noon.Add(-time.Second), Seq: 1, Reason: "failure_ratio",
	})
	const want = `{
  "at": "2026-01-02T12:00:00Z",
  "breakers": [
    {
      "key": "https://a m",
      "state": "open",
      "since": "2026-01-02T11:59:59Z",
      "seq": 1,
      "successes": 0,
      "failures": 0,
      "consecutive_failures": 0,
      "probe_at": "2026-01-02T12:00:01Z",
      "probes": 0,
      "totals": {
        "success": 1,
        "failure": 5,
        "ignored": 0,
        "stale": 0,
        "rejected": 3
      }
    }
  ],
  "pacing": [
    {
      "key": "https://a n",
      "waiting": 0,
      "paused_until": "2026-01-02T12:00:01Z"
    }
  ],
  "targets": [
    {
      "name": "home",
      "tier": 0,
      "weight": 0,
      "open": 0,
      "half_open": 0,
      "waiting": 0,
      "rests": null
    }
  ],
  "transitions": [
    {
      "key": "https://a m",
      "from": "closed",
      "to": "open",
      "at": "2026-01-02T11:59:59Z",
      "seq": 1,
      "reason": "failure_ratio"
    }
  ]
}
`
	for path, accept := range map[string]string{"/breakers.json": "text/html", "/": "application/json"} {
		resp := get(t, h, http.MethodGet, path, accept)
		if got := bodyOf(t, resp); got != want {
			t.Errorf("%s is\n%s\nbut want\n%s", path, got, want)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type is %q", path, got)
		}
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	for accept, json := range map[string]bool{
		"":                                 false,
		"*/*":                              false,
		"text/html":                        false,
		"application/json":                 true,
		"application/json, text/plain":     true,
		"text/html;q=0.5,application/json": true,
		"application/json;q=0.5,text/html": false,
		"application/json;q=0":             false,
		"application/json;q=junk":          false,
		"junk;;=, application/json":        true,
		"APPLICATION/JSON":                 true,
	} {
		if got := prefersJSON([]string{accept}); got != json {
			t.Errorf("Accept: %s: JSON is %t", accept, got)
		}
	}
	if !prefersJSON([]string{"text/plain", "application/json"}) {
		t.Error("a second Accept header is not looked at")
	}
}

func TestOnlyThePageAndItsJSONAndOnlyToRead(t *testing.T) {
	t.Parallel()
	h := fixed(retrip.Snapshot{})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodHead, "/", http.StatusOK},
		{http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/breakers.json", http.StatusMethodNotAllowed},
		{http.MethodGet, "/other", http.StatusNotFound},
	} {
		if resp := get(t, h, c.method, c.path, ""); resp.StatusCode != c.status {
			t.Errorf("%s %s: %s", c.method, c.path, resp.Status)
		}
	}
	below := http.StripPrefix("/breakers", h)
	if resp := get(t, below, http.MethodGet, "/breakers/breakers.json", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("below a prefix: %s", resp.Status)
	}
}

// TestHostileModels sends them the way they would come: with a caller's call.
func TestHostileModels(t *testing.T) {
	t.Parallel()
	models := []string{
		`<script>alert(1)</script>`,
		`"><img src=x onerror=alert(1)>`,
		`' onmouseover='alert(1)`,
		`</bdi></h2></article></body>`,
		`{{.}} &lt;b&gt; &amp;`,
		`javascript:alert(1)`,
		"\u202egnp.exe", // reversed by those who don't isolate it
		strings.Repeat("long", 30),
	}
	provider := openaitest.NewServer()
	defer provider.Close()
	provider.Always(openaitest.Chat, openaitest.Status(500))
	var changes Changes
	var cfg retrip.Config
	cfg.Breaker.FailureThreshold = 1
	cfg.Breaker.OnStateChange = changes.Add
	cfg.Retry.MaxAttempts = 1
	transport := retrip.NewTransport(nil, cfg)
	defer transport.Close() //nolint:errcheck // nobody collects
	defer transport.CloseIdleConnections()
	for _, model := range models {
		call{path: "/chat/completions", model: model, input: "messages"}.once(t.Context(), &http.Client{Transport: transport}, provider.URL)
	}
	h := NewHandler(transport.Snapshot, &changes)

	page := bodyOf(t, get(t, h, http.MethodGet, "/", ""))
	var report struct{ Breakers, Transitions []struct{ Key string } }
	if err := json.Unmarshal([]byte(bodyOf(t, get(t, h, http.MethodGet, "/breakers.json", ""))), &report); err != nil {
		t.Error(err)
	}
	all := elements(t, page)
	for _, e := range all {
		if !slices.Contains([]string{
			"html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "div",
			"h1", "h2", "p", "span", "small", "a", "bdi", "time", "br", "dl", "dt", "dd", "ol", "li",
		}, e.name) {
			t.Errorf("the page has a <%s>", e.name)
		}
	}
	shown := texts(all, "bdi", "")
	for _, model := range models {
		key := strings.TrimSuffix(provider.URL, "/v1") + " chat " + model
		if n := len(slices.DeleteFunc(slices.Clone(shown), func(s string) bool { return s != key })); n != 2 {
			t.Errorf("%q is shown %d times, not as a breaker and as a transition, in %q", key, n, shown)
		}
		is := func(b struct{ Key string }) bool { return b.Key == key }
		if !slices.ContainsFunc(report.Breakers, is) || !slices.ContainsFunc(report.Transitions, is) {
			t.Errorf("%q is not in the JSON: %q", key, report)
		}
	}
}

func TestChangesKeepTheLast(t *testing.T) {
	t.Parallel()
	var changes Changes
	if got := changes.Last(); len(got) != 0 {
		t.Error(got)
	}
	for seq := range uint64(keptChanges + 5) {
		changes.Add(breaker.StateChange{Key: strconv.FormatUint(seq, 10), Seq: seq})
	}
	last := changes.Last()
	if len(last) != keptChanges {
		t.Fatalf("%d are kept", len(last))
	}
	for i, c := range last {
		if want := uint64(keptChanges + 4 - i); c.Seq != want || c.Key != strconv.FormatUint(want, 10) {
			t.Errorf("number %d is %+v", i, c)
		}
	}
}

func TestChangesAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var changes Changes
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				changes.Add(breaker.StateChange{Key: "k"})
				for _, c := range changes.Last() {
					if c.Key != "k" {
						t.Errorf("%+v", c)
					}
				}
			}
		})
	}
	group.Wait()
}
