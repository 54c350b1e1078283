package openai

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
)

// The paths of calls whose answers are read in one way each.
const (
	chatPath       = "chat/completions"
	embeddingsPath = "embeddings"
	responsesPath  = "responses"
	messagesPath   = "messages"
	imagesPath     = "images/generations"
	modelsPath     = "models"
)

var allPaths = []string{chatPath, embeddingsPath, responsesPath, messagesPath, imagesPath, modelsPath}

// attemptTo returns the request of an attempt at a POST, and its call.
func attemptTo(t testing.TB, path string) (*call.Call, *http.Request) {
	t.Helper()
	origin, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://api.example.com/v1/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if path == messagesPath {
		origin.Header.Set("Anthropic-Version", "2023-06-01")
	}
	c := new(call.Call).Init(context.Background())
	attempt := new(call.Attempt)
	attempt.Init(c)
	return c, origin.WithContext(attempt)
}

var quietRecorder = newOperationRecorder(noop.NewMeterProvider())

// answerTo returns the answer to a POST whose body comes from src. The size is
// -1 if nobody has announced it.
func answerTo(t testing.TB, path, label string, src io.ReadCloser, size int64) *answer {
	t.Helper()
	c, req := attemptTo(t, path)
	response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: src, ContentLength: size}
	if label != "" {
		response.Header.Set("Content-Type", label)
	}
	a := &answer{request: req, watcher: &watcher{metrics: quietRecorder, idle: -1}}
	return a.watcher.watch(a, c, response).(*answer)
}

// streamTo is answerTo for a body that is taken for a stream whatever it
// begins with.
func streamTo(t testing.TB, path string, src io.ReadCloser) *answer {
	t.Helper()
	a := answerTo(t, path, "text/event-stream", src, -1)
	if a.kind == undecided {
		a.decide(eventBody)
	}
	return a
}

// A reads is a body that comes in pieces, whose sizes are repeated; a size of
// 0 is a Read that brings nothing.
type reads struct {
	rest  []byte
	sizes []byte // all at once, if there are none
	joint bool   // io.EOF comes with the last piece
	n     int
}

func (r *reads) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	size := len(r.rest)
	if len(r.sizes) > 0 {
		before := r.sizes[(r.n+len(r.sizes)-1)%len(r.sizes)]
		size = int(r.sizes[r.n%len(r.sizes)])
		if r.n++; size == 0 && before == 0 {
			size = 1
		}
	}
	n := copy(p, r.rest[:min(size, len(r.rest))])
	r.rest = r.rest[n:]
	if r.joint && len(r.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (r *reads) Close() error { return nil }

// An answerEnd is all that came of an answer.
type answerEnd struct {
	bytes   string // delivered
	err     string // of the last Read; "" for io.EOF
	shown   string // Body of the AnswerError that the last Read ended in
	isFail  bool
	failure string // what is wrong with it
	verdict verdict
	early   bool
	useful  bool
	stream  string          // its outcome; "" if it is none
	breaker breaker.Outcome // the breaker's
	facts   facts
}

func endOf(t testing.TB, a *answer) (end answerEnd) {
	t.Helper()
	body, err := io.ReadAll(a)
	end = answerEnd{bytes: string(body), early: a.early.Load(), useful: a.useful.Load()}
	if err != nil {
		end.err = err.Error()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q ends in %v, which is no io.ErrUnexpectedEOF", body, err)
		}
	}
	var shown *AnswerError
	if errors.As(err, &shown) {
		end.shown = string(shown.Body())
	}
	if failure := a.failed.Load(); failure != nil {
		end.isFail, end.failure, end.verdict = true, failure.Error(), failure.verdict
	}
	end.facts = a.json.facts
	if a.kind == eventBody {
		end.stream, end.facts = a.outcome(), a.stream.facts
	}
	end.breaker = a.End(nil)
	return end
}

var answerLabels = []string{"application/json", "text/event-stream", "text/html; charset=utf-8", ""}

// What is no answer, as it comes with any label.
var noAnswers = []string{
	"", " \r\n", "\ufeff", "<html>sorry</html>", "\n<html>", "upstream connect error", "d", "da", "data", "event", ": ", "retry: 5\n\n", "{", `{"choices":[`, `"x`, `{"a":1]`, "tru",
	"\ufeff" + `{"choices":[{"message":{"content":"x"}}]}`, " \ufeff" + ` {"a":1}`, "\ufeff\ufeff{}", "\ufeff data: {}\n\n", " data: x\n\n", "\n\ufeffdata: x\n\n",
	`{"error":{"code":"server_error"}}`, `{"error":{}}`, `{"choices":[{"finish_reason":"error"}]}`, `[{"error":{"code":429}}]`, `{"type":"error","error":{"type":"overloaded_error"}}`,
	`{"object":"response","status":"failed","error":{"code":"server_error"},"output":[]}`, "{} \n\ndata: [DONE]\n\n", "{}{}", "null", "1", "1.5e3 x", `"text"`, "error: {}\n\n",
}

// A stream that its caller closes before anything useful says nothing of the provider.
func TestAStreamThatIsClosedEarlyIsNoSuccess(t *testing.T) {
	t.Parallel()
	const role = `data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}` + "\n\n"
	for stream, want := range map[string]breaker.Outcome{
		role: breaker.Undecided,
		role + `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n": breaker.Success,
	} {
		a := streamTo(t, chatPath, &pieces{[]byte(stream), 1 << 10})
		_, _ = a.Read(make([]byte, 1<<10))
		seen := a.Data(nil)
		if end := a.End(breaker.ErrBodyClosed); seen != want || end != breaker.Undecided {
			t.Errorf("%s: %v, in the end %v", stream, seen, end)
		}
	}
}

// FuzzAnswer: whatever is answered, with whatever label and to whatever call,
// its bytes are delivered unchanged, and what comes of it does not depend on
// how they are cut into Reads.
func FuzzAnswer(f *testing.F) {
	add := func(data string) {
		for kind := range len(allPaths) * len(answerLabels) {
			f.Add([]byte(data), uint8(kind), []byte{1, 3, 2})
		}
	}
	for _, all := range [][]string{noAnswers, streamsOfEvents, answersInJSON} {
		for _, data := range all {
			add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8, sizes []byte) {
		path, label := allPaths[int(kind)%len(allPaths)], answerLabels[int(kind)/len(allPaths)%len(answerLabels)]
		want := endOf(t, answerTo(t, path, label, &reads{rest: data}, -1))
		where := path + ", " + label
		if want.bytes != string(data) {
			t.Errorf("%s: %q is delivered as %q", where, data, want.bytes)
		}
		if want.shown != "" && want.shown != want.bytes[:min(len(want.bytes), maxKept)] {
			t.Errorf("%s: of %q the error shows %q", where, data, want.shown)
		}
		worth := breaker.Success
		if want.isFail {
			worth = want.verdict.outcome
		}
		if want.breaker != worth || want.err != "" && !want.isFail {
			t.Errorf("%s: %q: %+v", where, data, want)
		}
		for name, src := range map[string]*reads{
			"byte by byte":           {rest: data, sizes: []byte{1}},
			"in pieces":              {rest: data, sizes: sizes},
			"in pieces, and EOF":     {rest: data, sizes: sizes, joint: true},
			"in one piece, with EOF": {rest: data, joint: true},
		} {
			if got := endOf(t, answerTo(t, path, label, src, -1)); got != want {
				t.Errorf("%s: %q %s (%v):\n%+v, want\n%+v", where, data, name, sizes, got, want)
			}
		}
		// Nobody has to read on to io.EOF where a length is known.
		a := answerTo(t, path, label, &reads{rest: data, sizes: sizes}, int64(len(data)))
		if _, err := io.ReadFull(a, make([]byte, len(data))); err != nil {
			t.Errorf("%s: %q: %v", where, data, err)
		}
		if outcome := a.End(nil); outcome != want.breaker {
			t.Errorf("%s: %q, of known length: %v, want %v", where, data, outcome, want.breaker)
		}
	})
}
