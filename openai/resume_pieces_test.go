package openai

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// planOf returns what a payload says of resuming, nil if its stream is not resumed.
func planOf(payload string) *resumePlan {
	var c call.Call
	p := payloadReader{resumable: true}
	p.read(&c, []byte(payload))
	return p.resume
}

func TestOnlyAStreamInTheBackgroundThatIsStoredIsResumed(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]bool{
		`{"background":true,"stream":true}`:                                                   true,
		`{"stream":true,"model":"m","background":true,"store":true}`:                          true,
		`{"background":true,"stream":true,"store":null}`:                                      true,
		`{"background":true,"stream":true,"include":["a","b"]}`:                               true,
		`{"background":true,"stream":true,"include":null}`:                                    true,
		`{"background":true,"stream":true,"input":[{"background":false,"stream":false}]}`:     true,
		`{"background":true,"stream":true,"store":false}`:                                     false,
		`{"background":true,"stream":false}`:                                                  false,
		`{"background":true}`:                                                                 false,
		`{"background":false,"stream":true}`:                                                  false,
		`{"background":null,"stream":true}`:                                                   false,
		`{"background":"true","stream":true}`:                                                 false,
		`{"background":1,"stream":true}`:                                                      false,
		`{"background":true,"background":false,"stream":true}`:                                false,
		`{"stream":true,"include":["a"],"stream_options":{"include_obfuscation":true}}`:       false,
		`{"stream":true,"metadata":{"background":true}}`:                                      false,
		`{"background":true,"stream":true`:                                                    false,
		`{"background":true,"stream":true,"include":[1]}`:                                     false,
		`{"background":true,"stream":true,"include":["` + strings.Repeat("a", 257) + `"]}`:    false,
		`{"background":true,"stream":true,"include":[` + strings.Repeat(`"a",`, 32) + `"a"]}`: false,
		`[]`: false,
		``:   false,
	} {
		if got := planOf(payload) != nil; got != want {
			t.Errorf("%.80s: %v", payload, got)
		}
	}
	var c call.Call
	p := payloadReader{}
	if p.read(&c, []byte(`{"background":true,"stream":true,"include":["a"]}`)); p.resume != nil {
		t.Error("an endpoint whose streams are not resumed has a plan")
	}
}

func TestTheWayBackIsBelowTheURLOfThePOST(t *testing.T) {
	t.Parallel()
	const plain = `{"background":true,"stream":true}`
	for name, row := range map[string]struct{ url, payload, want string }{
		"plain":          {"https://api.openai.com/v1/responses", plain, "https://api.openai.com/v1/responses/resp_1?stream=true&starting_after=7"},
		"a slash":        {"https://h/v1/responses/", plain, "https://h/v1/responses/resp_1?stream=true&starting_after=7"},
		"Azure":          {"https://h/openai/responses?api-version=2025-04-01-preview", plain, "https://h/openai/responses/resp_1?api-version=2025-04-01-preview&stream=true&starting_after=7"},
		"an escape":      {"https://h/a%2Fb/responses", plain, "https://h/a%2Fb/responses/resp_1?stream=true&starting_after=7"},
		"a port, a user": {"http://u:p@h:8080/responses", plain, "http://u:p@h:8080/responses/resp_1?stream=true&starting_after=7"},
		"include": {
			"https://h/responses", `{"background":true,"stream":true,"include":["file_search_call.results","a&b=\u0063"]}`,
			"https://h/responses/resp_1?stream=true&starting_after=7&include%5B%5D=file_search_call.results&include%5B%5D=a%26b%3Dc",
		},
		"obfuscation": {
			"https://h/responses", `{"background":true,"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}`,
			"https://h/responses/resp_1?stream=true&starting_after=7&include_obfuscation=false",
		},
	} {
		u, err := url.Parse(row.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := planOf(row.payload).url(u, "resp_1", 7).String(); got != row.want {
			t.Errorf("%s: %s\nwant %s", name, got, row.want)
		}
	}
}

func TestARequestToResumeHasTheHeadersOfThePOSTButThoseOfItsPayload(t *testing.T) {
	t.Parallel()
	post := http.Header{
		"Authorization": {"Bearer key"}, "Openai-Beta": {"a", "b"}, "x-lower": {"kept"},
		"Content-Type": {"application/json"}, "Content-Length": {"9"}, "content-encoding": {"gzip"}, "Content-Md5": {"x"},
		"Idempotency-Key": {"k"}, "X-Idempotency-Key": {"k"}, "Expect": {"100-continue"}, "Accept": {"application/json"},
		"accept-encoding": {"gzip"}, "X-Stainless-Retry-Count": {"1"},
	}
	got := resumingHeader(post)
	want := http.Header{"Authorization": {"Bearer key"}, "Openai-Beta": {"a", "b"}, "x-lower": {"kept"}, "Accept": {"text/event-stream"}}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name := range want {
		if !slices.Equal(got[name], want[name]) {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}

func TestAnIDStandsInAPathWithoutLeadingAnywhereElse(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"resp_68af4030592c8191": true, "a": true, "A.b-c_9": true, "...": true, strings.Repeat("a", 256): true,
		"": false, ".": false, "..": false, "a/b": false, "../x": false, "a?b": false, "a#b": false, "a%2fb": false, "a b": false,
		"a\\b": false, "a\nb": false, "é": false, "a@evil.example": false, "a:80": false, strings.Repeat("a", 257): false,
	} {
		if got := isResponseID(id); got != want {
			t.Errorf("%.40q: %v", id, got)
		}
	}
}

func TestAStreamIsCutIntoBlocksAtItsBlankLines(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string][]string{
		"data: 1\n\ndata: 2\n\nrest":     {"data: 1\n\n", "data: 2\n\n"},
		"a\nb\n\n: c\n\n":                {"a\nb\n\n", ": c\n\n"},
		"data: 1\r\n\r\ndata: 2\r\n\r\n": {"data: 1\r\n\r\n", "data: 2\r\n\r\n"},
		"data: 1\r\rdata: 2\r\r":         {"data: 1\r\r", "data: 2\r\r"},
		"a\n\r\nb\r\n\nc\n\rd\n\n":       {"a\n\r\n", "b\r\n\n", "c\n\r", "d\n\n"},
		"\n\n\r\na\n\n":                  {"\n", "\n", "\r\n", "a\n\n"},
		"data: 1\r\n\r":                  nil,
		"data: 1\n":                      nil,
	} {
		for size := 1; size <= len(stream); size++ {
			var s blockSplitter
			var got []string
			for piece := range slices.Chunk([]byte(stream), size) {
				s.feed(piece)
				for block := s.next(); block != nil; block = s.next() {
					got = append(got, string(block))
				}
			}
			if !slices.Equal(got, want) || strings.Join(got, "")+string(s.rest()) != stream {
				t.Errorf("%q in pieces of %d: %q and %q", stream, size, got, s.rest())
			}
		}
	}
}

func TestWaitsBetweenRequestsGrowAndEnd(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var s resumeSchedule
	for i, want := range []int{0, 500, 1000, 2000, 4000} {
		if wait, ok := s.next(); !ok || wait != time.Duration(want)*time.Millisecond {
			t.Errorf("%d: %v, %v", i, wait, ok)
		}
	}
	if _, ok := s.next(); ok {
		t.Error("a sixth request without progress")
	}
	s.progress(now) // a little progress: the waits go on to grow
	for i, want := range []int{8000, 8000} {
		if wait, ok := s.next(); !ok || wait != time.Duration(want)*time.Millisecond {
			t.Errorf("after an event, %d: %v, %v", i, wait, ok)
		}
	}
	s.progress(now)
	s.progress(now.Add(10 * time.Second))
	if wait, ok := s.next(); !ok || wait != 0 {
		t.Errorf("after 10 s of events: %v, %v", wait, ok)
	}
	for s.all < maxResumes {
		s.progress(now)
		if wait, ok := s.next(); !ok || wait > longestResumeWait {
			t.Fatalf("request %d: %v, %v", s.all, wait, ok)
		}
	}
	s.progress(now)
	if _, ok := s.next(); ok {
		t.Error("a request above the bound")
	}
}

func TestAStatusThatIsShownIsAName(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"in_progress"`: "in_progress", `"completed"`: "completed", `""`: "", `"sk-Secret"`: "", `"a b"`: "", `1`: "", `"` + strings.Repeat("a", 33) + `"`: "",
	} {
		if got := statusName([]byte(value)); got != want {
			t.Errorf("%s: %q", value, got)
		}
	}
}

// closeCounter is a body that counts how often it is closed.
type closeCounter struct{ closed int }

func (c *closeCounter) Read([]byte) (int, error) { return 0, io.EOF }

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

// A Close that comes between the answer and its use has closed the source before.
func TestASourceThatComesAfterCloseIsClosed(t *testing.T) {
	t.Parallel()
	a := &answer{format: responsesFormat}
	o := new(operation)
	o.call.Answer = a
	for _, closed := range []bool{false, true} {
		src := new(closeCounter)
		b := &resumedBody{operation: o, answer: a, closed: closed}
		if !b.goOn(&http.Response{StatusCode: http.StatusOK, Body: src}) || (src.closed == 1) != closed {
			t.Errorf("closed before: %v, the source was closed %d times", closed, src.closed)
		}
	}
}
