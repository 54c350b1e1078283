package corpus

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

const sample = `A dialect with an oddity.

-- request --
POST /v1/chat/completions
X-Trace: 1

{"model":"m",
"stream":true}

-- answer 2s --
503
Content-Type: text/plain

no\
-- answer crlf --
200
Content-Type: text/event-stream

@"\xef\xbb\xbf"
data: 1

@useful
@3*"x"
@100ms
data: 2

@complete
data: 3

-- config --
IdleTimeout: 300ms
-- expect --
requests: 2 / 1 / 2
read: EOF|AnswerError
breaker: failure, 2 success
stream: none / any / complete
ended: 1s
`

func parse(t *testing.T, text string) *Exchange {
	t.Helper()
	x, err := Parse("sample", text)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestParse(t *testing.T) {
	t.Parallel()
	x := parse(t, sample)
	if x.About != "A dialect with an oddity." || x.Config["IdleTimeout"] != "300ms" {
		t.Errorf("%q, %v", x.About, x.Config)
	}
	if r := x.Request; r.Method != "POST" || r.Path != "/v1/chat/completions" || r.Header.Get("X-Trace") != "1" ||
		r.Header.Get("Content-Type") != "application/json" || string(r.Payload) != "{\"model\":\"m\",\n\"stream\":true}" {
		t.Errorf("%+v", r)
	}
	first, second := x.AnswerTo(1), x.AnswerTo(3)
	if first.Silence != 2*time.Second || first.Status != 503 || string(first.Body()) != "no" {
		t.Errorf("%+v", first)
	}
	if got, want := string(second.Body()), "\ufeffdata: 1\r\n\r\nxxxdata: 2\r\n\r\ndata: 3\r\n\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for mark, want := range map[Mark]time.Duration{Headers: 0, Useful: 0, Complete: 110 * time.Millisecond} {
		if got, _ := second.At(mark); got != want {
			t.Errorf("mark %d is reached after %v, want %v", mark, got, want)
		}
	}
	if end, sent := first.At(Complete); end != 2*time.Second || sent != 2 {
		t.Errorf("the end is reached after %v and %d bytes", end, sent)
	}
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	x := parse(t, sample)
	from, immediate, whole := x.Wants[0], x.Wants[1], x.Wants[2]
	if from.Requests != 2 || immediate.Requests != 1 || from.Breaker["success"] != 2 || from.Breaker["failure"] != 1 ||
		len(from.Stream) != 0 || from.Stream == nil || immediate.Stream != nil || whole.Stream["complete"] != 1 ||
		from.Ended != time.Second || len(from.Read) != 2 {
		t.Errorf("%+v", x.Wants)
	}
	if from.Returned != Useful || immediate.Returned != Headers || whole.Returned != Complete {
		t.Errorf("%+v", x.Wants)
	}
	if x.Healthy() {
		t.Error("an exchange with a failure is no healthy one")
	}
	_, rest, _ := strings.Cut(sample, "no\\\n")
	before, _, _ := strings.Cut(sample, "-- answer")
	healthy, _, _ := strings.Cut(before+rest, "-- config")
	if x := parse(t, healthy); !x.Healthy() || x.Wants[2].Stream["complete"] != 1 {
		t.Errorf("%+v", x.Wants)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "whose dialect",
		"a\n-- request --\nGET /\n":            "an answer",
		"a\n-- request --\nGET\n":              "no method and path",
		"a\n-- request --\nGET /\nx\n":         "no colon",
		"a\n-- else --\n":                      "sections are",
		"a\n-- answer --\nOK\n":                "no status",
		"a\n-- answer lf --\n200\n":            "neither crlf",
		"a\n-- answer --\n200\n\n@soon\n":      "no mark",
		"a\n-- answer --\n200\n\n@-1*\"x\"\n":  "times",
		"a\n-- answer --\n200\n\n@cut\nmore\n": "nothing can follow",
		"a\n-- request --\nGET /\n-- answer --\n200\n-- expect --\nluck: 1\n":               "luck",
		"a\n-- request --\nGET /\n-- answer --\n200\n-- expect --\nrequests: 1 / 2\n":       "three",
		"a\n-- request --\nGET /\n-- answer --\n200\n-- expect --\nreturned: soon\n":        "headers",
		"a\n-- request --\nGET /\n-- answer --\n200\n-- expect --\nbreaker: many failure\n": "number",
	} {
		if _, err := Parse("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{"b.txt": {Data: []byte(sample)}, "a.txt": {Data: []byte(sample)}, "README": {Data: nil}}
	all, err := Load(dir)
	if err != nil || len(all) != 2 || all[0].Name != "a" {
		t.Fatalf("%v, %v", all, err)
	}
	seeds := 0
	for a, body := range Seeds(all) {
		seeds++
		if a.Status == 200 && !strings.HasPrefix(string(body), "\ufeff") {
			t.Errorf("%q", body)
		}
	}
	if seeds != 4 {
		t.Errorf("%d seeds, want 4", seeds)
	}
	dir["c.txt"] = &fstest.MapFile{Data: []byte("a\n-- else --\n")}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "c.txt") {
		t.Error(err)
	}
}

// An event is what a plain client has read by when.
type event struct {
	at   time.Duration
	text string
}

// play makes a request of plain net/http, and returns what it hears.
func play(t *testing.T, text string) (headers time.Duration, events []event, end error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := NewServer(parse(t, text))
		transport := server.Transport()
		start := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://provider.test/v1", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		headers = time.Since(start)
		buffer := make([]byte, 1024)
		for end == nil {
			var n int
			if n, end = resp.Body.Read(buffer); n > 0 {
				events = append(events, event{time.Since(start), string(buffer[:n])})
			}
			if time.Since(start) > time.Minute {
				break
			}
		}
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		server.Wait()
		if got := server.Requests(); len(got) != 1 || string(got[0].Payload) != "{}" {
			t.Errorf("%+v", got)
		}
	})
	return headers, events, end
}

func TestAnswersArePlayedByteForByte(t *testing.T) {
	t.Parallel()
	const request = "a\n-- request --\nPOST /v1\n\n{}\n"
	for name, row := range map[string]struct {
		answer  string
		headers time.Duration
		events  []event
		end     error
	}{
		"length":          {"-- answer 2s --\n200\n\n{}\\\n", 2 * time.Second, []event{{2 * time.Second, "{}"}}, io.EOF},
		"events":          {"-- answer --\n200\nContent-Type: text/event-stream; charset=utf-8\n\n: 1\n\n: 2\n\n", 0, []event{{0, ": 1\n\n"}, {between, ": 2\n\n"}}, io.EOF},
		"late":            {"-- answer --\n200\nTransfer-Encoding: chunked\n\n@3s\n{}\\\n", 0, []event{{3 * time.Second, "{}"}}, io.EOF},
		"closed":          {"-- answer --\n200\nConnection: close\n\na\n", 0, []event{{0, "a\n"}}, io.EOF},
		"cut":             {"-- answer --\n200\n\na\n@cut\n", 0, []event{{0, "a\n"}}, io.ErrUnexpectedEOF},
		"cut, in chunks":  {"-- answer --\n200\nTransfer-Encoding: chunked\n\na\n@cut\n", 0, []event{{0, "a\n"}}, io.ErrUnexpectedEOF},
		"reset":           {"-- answer --\n200\n\na\n@reset\n", 0, []event{{0, "a\n"}}, syscall.ECONNRESET},
		"without content": {"-- answer --\n204\n", 0, nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			headers, events, end := play(t, request+row.answer)
			if headers != row.headers || !errors.Is(end, row.end) {
				t.Errorf("headers after %v, want %v; end %v, want %v", headers, row.headers, end, row.end)
			}
			if len(events) != len(row.events) {
				t.Fatalf("%v, want %v", events, row.events)
			}
			for i, e := range events {
				if e != row.events[i] {
					t.Errorf("%v, want %v", e, row.events[i])
				}
			}
		})
	}
}

// FuzzParse holds that no file, however odd, makes the reader panic.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("a\n-- request --\nGET /\n-- answer --\n200\n\n@-1*\"x\"\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if x, err := Parse("fuzz", text); err == nil {
			_ = x.Healthy()
			_ = x.AnswerTo(1).Body()
		}
	})
}
