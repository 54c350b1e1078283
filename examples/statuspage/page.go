package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/retrip-go/retrip/breaker"
	retrip "github.com/retrip-go/retrip/openai"
)

// A Change is one transition of one breaker, as the page shows it.
type Change struct {
	Key    string        `json:"key"`
	From   breaker.State `json:"from"`
	To     breaker.State `json:"to"`
	At     time.Time     `json:"at"`
	Seq    uint64        `json:"seq"`
	Reason string        `json:"reason"`
}

// keptChanges is how many transitions Changes keeps, of all breakers together.
const keptChanges = 32

// Changes keep the last transitions. The zero value is ready for use, also by
// several goroutines.
type Changes struct {
	mu   sync.Mutex
	ring [keptChanges]Change
	seen int
}

// Add is for a breaker.Config's OnStateChange.
func (c *Changes) Add(change breaker.StateChange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring[c.seen%keptChanges] = Change{
		Key: change.Key, From: change.From, To: change.To, At: change.At, Seq: change.Seq, Reason: change.Reason,
	}
	c.seen++
}

// Last returns the transitions that are kept, the latest first.
func (c *Changes) Last() []Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := make([]Change, 0, min(c.seen, keptChanges))
	for i := range cap(last) {
		last = append(last, c.ring[(c.seen-1-i)%keptChanges])
	}
	return last
}

// A handler serves the targets, the breakers, and the rate limits that are exhausted.
type handler struct {
	snapshot func() retrip.Snapshot
	changes  *Changes
	now      func() time.Time
}

// NewHandler returns a handler of / and /breakers.json; to have it elsewhere,
// put http.StripPrefix around it. snapshot is a Transport's method, or a
// function that puts those of several together. It asks nobody who they are.
func NewHandler(snapshot func() retrip.Snapshot, changes *Changes) http.Handler {
	h := &handler{snapshot: snapshot, changes: changes, now: time.Now}
	return h.routes()
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /breakers.json", h.json)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if prefersJSON(r.Header.Values("Accept")) {
			h.json(w, r)
		} else {
			h.html(w, r)
		}
	})
	return mux
}

// prefersJSON reports whether Accept ranks JSON above HTML. Who accepts
// anything gets HTML.
func prefersJSON(accept []string) bool {
	var html, json float64
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch media {
		case "application/json":
			json = max(json, q)
		case "text/html":
			html = max(html, q)
		}
	}
	return json > html
}

// A report is the page as JSON.
type report struct {
	At time.Time `json:"at"`
	retrip.Snapshot
	Transitions []Change `json:"transitions"`
}

func (h *handler) report() report {
	return report{At: h.now(), Snapshot: h.snapshot(), Transitions: h.changes.Last()}
}

func (h *handler) json(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(h.report(), "", "  ")
	answer(w, "application/json", append(body, '\n'), err)
}

func (h *handler) html(w http.ResponseWriter, _ *http.Request) {
	var body bytes.Buffer
	err := page.Execute(&body, newView(h.report()))
	answer(w, "text/html; charset=utf-8", body.Bytes(), err)
}

func answer(w http.ResponseWriter, media string, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// Keys hold models' names, which callers choose: nothing may come of them
	// even if the escaping were wrong.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(body)
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"words": words, "reason": reason}).Parse(pageText))

// words is how a state is called in a sentence.
func words(s breaker.State) string { return strings.ReplaceAll(s.String(), "_", " ") }

// A view is what the template shows.
type view struct {
	Summary string
	At      time.Time
	Targets []target
	Cards   []card
	Limits  []limit
	Changes []Change
	Kept    int
}

// A card shows one breaker.
type card struct {
	breaker.Snapshot

	Class  string // the state
	Words  string // State in words
	Age    string // since the state began
	Next   string // what happens next
	Window bool   // Successes and Failures are known
}

// A limit shows a rate limit that is exhausted.
type limit struct{ Key, Next string }

func newView(r report) view {
	v := view{At: r.At.UTC(), Changes: r.Transitions, Kept: keptChanges}
	for _, s := range r.Breakers {
		v.Cards = append(v.Cards, newCard(s, r.At))
	}
	// What is wrong comes first: a phone shows two of them.
	slices.SortStableFunc(v.Cards, func(a, b card) int { return slices.Index(worst, a.Class) - slices.Index(worst, b.Class) })
	for i := range r.Targets {
		v.Targets = append(v.Targets, newTarget(&r.Targets[i], r.At))
	}
	for _, p := range r.Pacing {
		v.Limits = append(v.Limits, limit{p.Key, pace(p, r.At)})
	}
	v.Summary = summary(v)
	return v
}

// pace says what holds the calls of an account back.
func pace(p retrip.PacingSnapshot, at time.Time) string {
	var said []string
	if p.PausedUntil.After(at) {
		said = append(said, "for another "+remains(p.PausedUntil, at))
	}
	if p.Rate > 0 {
		said = append(said, fmt.Sprintf("%.3g calls a second", p.Rate))
	}
	return strings.Join(append(said, fmt.Sprintf("%d waiting", p.Waiting)), ", ")
}

var worst = []string{"open", "half_open", "closed"}

func newCard(s breaker.Snapshot, now time.Time) card {
	c := card{
		Snapshot: s, Class: s.State.String(), Words: words(s.State), Window: s.State == breaker.Closed,
		Age: max(now.Sub(s.Since), 0).Truncate(time.Second).String(),
	}
	switch {
	case s.State == breaker.Open:
		c.Next = "probes in " + remains(s.ProbeAt, now)
	case s.State == breaker.HalfOpen && s.Probes > 0:
		c.Next = fmt.Sprintf("probes under way: %d", s.Probes)
	case s.State == breaker.HalfOpen:
		c.Next = "the next request is a probe"
	}
	return c
}

// remains returns how long it is until t, at least a second.
func remains(t, now time.Time) string {
	return (max(t.Sub(now), 1) + time.Second - 1).Truncate(time.Second).String()
}

func summary(v view) string {
	if len(v.Cards) == 0 {
		return "no requests yet"
	}
	count := map[string]int{}
	for _, c := range v.Cards {
		count[c.Class]++
	}
	var parts []string
	for _, class := range worst {
		if n := count[class]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(class, "_", " ")))
		}
	}
	text := strings.Join(parts, ", ")
	if n := len(v.Limits); n > 0 {
		text += fmt.Sprintf("; rate limits: %d", n)
	}
	return text
}
