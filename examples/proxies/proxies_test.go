package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	provideIfAsked()
	os.Exit(m.Run())
}

// installed reports whether the proxies can be run. Where they have to be
// there, it is an error that they are not.
func installed(t *testing.T) bool {
	t.Helper()
	err := missing()
	switch {
	case err == nil:
		return true
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Logf("not run: %v", err)
	}
	return false
}

func TestNoPairingIsAnsweredLessThanWithTheSDKsRetries(t *testing.T) {
	t.Parallel()
	if !installed(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	plays, err := playAll(ctx, scenes())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table(ctx, plays))
	for _, p := range plays {
		if broken := p.breaks(); broken != "" {
			t.Errorf("%s: %s", p.name, broken)
		}
	}
}

func TestTheRuleIsAboutAnswersAndHalves(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		chain, sdk result
		broken     bool
	}{
		"as many":      {result{answered: 7, halves: 1}, result{answered: 7, halves: 1}, false},
		"better":       {result{answered: 8}, result{answered: 7, halves: 1}, false},
		"fewer":        {result{answered: 6}, result{answered: 7, halves: 1}, true},
		"more halves":  {result{answered: 8, halves: 1}, result{answered: 7}, true},
		"nothing well": {result{}, result{}, false},
	} {
		results := make([]result, len(pairings))
		for i, p := range pairings {
			results[i].pairing = p
			results[i].answered, results[i].halves = row.sdk.answered, row.sdk.halves
		}
		for i, p := range pairings {
			if p.chain {
				results[i].answered, results[i].halves = row.chain.answered, row.chain.halves
				break
			}
		}
		if got := (played{&scene{}, results}).breaks(); (got != "") != row.broken {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestHalfAnAnswerIsWhatAnSDKTakesForAWholeOne(t *testing.T) {
	t.Parallel()
	object, stream := plan{Call: 7}, plan{Call: 7, Stream: true}
	html := "<html>sorry</html>"
	for name, row := range map[string]struct {
		plan           plan
		body           string
		answered, half bool
	}{
		"an object":                   {object, strings.Join(object.answer(), ""), true, false},
		"half an object":              {object, object.answer()[0], false, false},
		"a page for an object":        {object, html, false, false},
		"another call's object":       {object, strings.Join(plan{Call: 8}.answer(), ""), false, true},
		"a stream":                    {stream, strings.Join(stream.answer(), ""), true, false},
		"a stream without its [DONE]": {stream, strings.Join(stream.answer()[:14], ""), true, false},
		"half a stream":               {stream, strings.Join(stream.answer()[:7], ""), false, true},
		"a page for a stream":         {stream, html, false, true},
		"an error in a stream":        {stream, stream.answer()[0] + "data: {\"error\":{}}\n\n", false, false},
	} {
		c := &caller{url: "http://x/", client: &http.Client{Transport: always(row.body)}}
		if got := c.call(t.Context(), row.plan); got.answered != row.answered || got.half != row.half || (got.err == nil) != (row.answered || row.half) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnSDKRetriesTwice(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]int64{200: 1, 400: 1, 404: 1, 408: 3, 409: 3, 429: 3, 500: 3, 503: 3} {
		var c caller
		c.pairing = pairing{sdk: true}
		c.url = "http://x/"
		c.client = &http.Client{Transport: counting{status(code), &c.sent, &c.refused}}
		_ = c.call(t.Context(), plan{})
		if got := c.sent.Load(); got != want {
			t.Errorf("%d: %d requests, want %d", code, got, want)
		}
	}
}

func TestAnSDKWaitsAsItIsTold(t *testing.T) {
	t.Parallel()
	with := func(name, value string) *http.Response {
		return &http.Response{Header: http.Header{name: {value}}}
	}
	for name, row := range map[string]struct {
		resp        *http.Response
		retries     int
		least, most time.Duration
		obeyed      bool
	}{
		"a lost connection":     {nil, 0, 375 * ms, 500 * ms, true},
		"the second time":       {with("X", ""), 1, 750 * ms, 1000 * ms, true},
		"never above 8 s":       {with("X", ""), 9, 6000 * ms, 8000 * ms, true},
		"Retry-After":           {with("Retry-After", "2"), 0, 2000 * ms, 2000 * ms, true},
		"Retry-After-Ms":        {with("Retry-After-Ms", "20"), 0, 20 * ms, 20 * ms, true},
		"Retry-After, too long": {with("Retry-After", "61"), 0, 61000 * ms, 61000 * ms, false},
	} {
		if got, obeyed := delay(row.resp, row.retries); got < row.least || got > row.most || obeyed != row.obeyed {
			t.Errorf("%s: %v, %v", name, got, obeyed)
		}
	}
}

// status answers with a status that asks to come again at once.
type status int

func (s status) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(s), Header: http.Header{"Retry-After": {"0"}}, Body: http.NoBody}, nil
}

// always answers with the same body.
type always string

func (a always) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: readCloser{strings.NewReader(string(a))}}, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestTheTableIsWrittenBetweenItsMarks(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "README.md")
	for _, text := range []string{"one\n", "two\n"} {
		if err := os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := write(page, text); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(page); string(got) != "before\n"+begin+"\n"+text+"\n"+end+"after\n" {
			t.Errorf("%q", got)
		}
	}
	if err := write("go.mod", "text"); err == nil {
		t.Error("a page without marks is written")
	}
}

func TestTheREADMEHasAllScenes(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenes() {
		if !strings.Contains(string(page), "\n| "+s.name+" |") {
			t.Errorf("it lacks %s: go run -C examples/proxies . -write README.md", s.name)
		}
	}
	for _, c := range crowds() {
		if !strings.Contains(string(page), "\n| "+c.name+" |") {
			t.Errorf("it lacks %s: go run -C examples/proxies . -write README.md", c.name)
		}
	}
}

func TestAQuarterOfTheCallsFails(t *testing.T) {
	t.Parallel()
	var once, twice, streams int
	for n := range 40 {
		p := failing(closed)(n)
		switch len(p.Faults) {
		case 1:
			once++
		case 2:
			twice++
		}
		if p.Stream && p.Faults != nil {
			streams++
		}
	}
	if once != 5 || twice != 5 || streams != 5 {
		t.Errorf("%d fail once and %d twice, %d of them streams", once, twice, streams)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) { //nolint:paralleltest // it changes the environment
	t.Setenv("PATH", t.TempDir())
	if err := missing(); err == nil || !strings.Contains(err.Error(), "apt-get install nginx haproxy") {
		t.Error(err)
	}
}
