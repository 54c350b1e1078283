package compat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// A tee keeps the bytes that an SDK reads.
type tee struct {
	http.RoundTripper

	read bytes.Buffer
}

func (t *tee) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, &t.read), resp.Body}
	}
	return resp, err
}

// A reading is what an SDK has read of a response in the background.
type reading struct {
	bytes  string
	events []string
	report retry.Report
	err    error
}

// readInBackground has the SDK ask for a response in the background, as a stream.
func readInBackground(ctx context.Context, url string, transport http.RoundTripper) (r reading) {
	bytes := &tee{RoundTripper: transport}
	o := newOpenAI(url, &http.Client{Transport: bytes})
	params := paramsOfResponse()
	params.Background = openai.Bool(true)
	stream := o.Responses.NewStreaming(retry.WithReport(ctx, &r.report), params)
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	for stream.Next() {
		r.events = append(r.events, stream.Current().RawJSON())
	}
	r.bytes, r.err = bytes.read.String(), stream.Err()
	return r
}

// resumed reads a response whose streams end as they are told to, from a provider
// of its own, and compares it with one that was not cut.
func resumed(t *testing.T, whole reading, cuts ...openaitest.Answer) {
	t.Helper()
	s := newScene(t, retrip.Config{})
	s.provider.Script(openaitest.Responses, cuts...)
	got := readInBackground(t.Context(), s.provider.URL, s.chain)
	if got.err != nil || got.bytes != whole.bytes || !slices.Equal(got.events, whole.events) {
		t.Errorf("%v: %d events\n%s\nwant %d events\n%s", got.err, len(got.events), got.bytes, len(whole.events), whole.bytes)
	}
	if n := s.provider.Count(openaitest.Responses) - 1; got.report.Resumes != n || got.report.Attempts != 1 || n > len(cuts) {
		t.Errorf("%d requests to resume: %+v", n, got.report)
	}
}

// uncut reads a response that is not cut, without the chain.
func uncut(t *testing.T) reading {
	t.Helper()
	s := newScene(t, retrip.Config{})
	whole := readInBackground(t.Context(), s.provider.URL, s.plain.Transport)
	if whole.err != nil || len(whole.events) != 15 {
		t.Fatalf("%v: %q", whole.err, whole.events)
	}
	return whole
}

func TestAResponseInTheBackgroundIsReadWholeWhereverItIsCut(t *testing.T) {
	t.Parallel()
	whole := uncut(t)
	t.Run("at each event", func(t *testing.T) {
		t.Parallel()
		for n := 1; n <= len(whole.events); n++ {
			resumed(t, whole, openaitest.OK().CutAfter(n))
			resumed(t, whole, openaitest.OK().ResetAfter(n))
		}
	})
	first := strings.Index(whole.bytes, "\n\n") + 2
	t.Run("at any byte", func(t *testing.T) {
		t.Parallel()
		random := rand.New(rand.NewPCG(7, 1))
		for range 60 {
			resumed(t, whole, openaitest.OK().CutAfterBytes(first+random.IntN(len(whole.bytes)-first)))
		}
	})
	t.Run("up to five times", func(t *testing.T) {
		t.Parallel()
		// They wait for seconds, beside each other.
		var all sync.WaitGroup
		for n := range uint64(24) {
			all.Go(func() {
				random := rand.New(rand.NewPCG(7, n))
				cuts := []openaitest.Answer{openaitest.OK().CutAfterBytes(first + random.IntN(900))}
				for range 1 + n%4 {
					cut := openaitest.OK().CutAfterBytes(random.IntN(900))
					if random.IntN(2) == 0 {
						cut = openaitest.OK().CutAfter(random.IntN(4))
					}
					cuts = append(cuts, cut)
				}
				resumed(t, whole, cuts...)
			})
		}
		all.Wait()
	})
}

func TestWhatBecomesOfAResponseThatCanNotBeResumedCanBeAsked(t *testing.T) {
	t.Parallel()
	s := newScene(t, retrip.Config{})
	s.provider.Script(openaitest.Responses, openaitest.OK().CutAfter(6), openaitest.Error(400, "invalid_request_error", "", "The stream is too old."))
	got := readInBackground(t.Context(), s.provider.URL, s.chain)
	var given *retrip.ResumeError
	if !errors.As(got.err, &given) || given.Status != "in_progress" || given.StatusCode != http.StatusBadRequest || len(got.events) != 6 {
		t.Fatalf("%v after %d events", got.err, len(got.events))
	}
	o := newOpenAI(s.provider.URL, s.client)
	answer, err := o.Responses.Get(t.Context(), given.ResponseID, responses.ResponseGetParams{})
	if err != nil || answer.OutputText() != openaitest.DefaultText {
		t.Errorf("%v: %s", err, answer.RawJSON())
	}
}

func TestWithoutResumeAResponseEndsWhereItIsCut(t *testing.T) {
	t.Parallel()
	s := newScene(t, retrip.Config{})
	s.provider.Script(openaitest.Responses, openaitest.OK().CutAfter(6))
	got := readInBackground(retrip.WithoutResume(t.Context()), s.provider.URL, s.chain)
	if kind(got.err) != "unexpected EOF" || len(got.events) != 6 || s.provider.Count(openaitest.Responses) != 1 {
		t.Errorf("%v after %d events", got.err, len(got.events))
	}
}
