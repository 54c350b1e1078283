package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/internal/corpus"
	"github.com/retrip-go/retrip/openai"
)

// corpusDeliveries are in the order in which the files expect things.
var corpusDeliveries = [3]openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole}

// corpusNames are the names of constants in the files' config sections.
var corpusNames = map[string]int64{"PassThrough": 1}

// exact is how far times may differ that are virtual.
const exact = time.Millisecond

func loadCorpus(t testing.TB) []*corpus.Exchange {
	t.Helper()
	all, err := corpus.Load(os.DirFS("testdata/corpus"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("the corpus is empty")
	}
	return all
}

// TestCorpus makes the call of each file, and compares what becomes of it with
// what the file expects. A healthy answer must also be what plain net/http
// makes of it: the same bytes at the same time.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, x := range loadCorpus(t) {
		for i, delivery := range corpusDeliveries {
			t.Run(x.Name+"/"+delivery.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { checkExchange(t, x, delivery, x.Wants[i]) })
			})
		}
	}
}

func checkExchange(t *testing.T, x *corpus.Exchange, delivery openai.Delivery, want corpus.Want) {
	t.Helper()
	e := newEncounter(t, x, delivery)
	got := e.call(e.chain)
	e.checkRequests(want)
	e.checkDelivered(got, want)
	e.checkBooks(want)
	e.checkPace(want)
	if x.Healthy() {
		e.checkLikePlain(got)
	}
	// What the books say of one call decides; that five more calls change nothing is a
	// repetition of it.
	repeats := !testing.Short() || delivery == openai.FromFirstEvent
	if repeats && want.Requests == 1 && want.Breaker["failure"] == 0 && want.Paces != "yes" {
		checkStaysClosed(t, x, delivery)
	}
}

// checkStaysClosed repeats a call so often that a breaker which took it for a
// failure opens.
func checkStaysClosed(t *testing.T, x *corpus.Exchange, delivery openai.Delivery) {
	t.Helper()
	const times = 5
	e := newEncounter(t, x, delivery)
	for range times {
		_ = e.call(e.chain)
		time.Sleep(time.Second)
	}
	if got := len(e.server.Requests()); got != times {
		t.Errorf("%d calls made %d requests", times, got)
	}
	for _, s := range collect(t, e.reader).with("retrip.breaker.state") {
		if s.attrs["retrip.breaker.state"] != "closed" && s.sum > 0 {
			t.Errorf("after %d calls the breaker is %s", times, s.attrs["retrip.breaker.state"])
		}
	}
}

// An encounter is the chain before the provider of one exchange.
type encounter struct {
	t      *testing.T
	x      *corpus.Exchange
	server *corpus.Server
	plain  *http.Transport
	chain  *openai.Transport
	reader *sdk.ManualReader
}

func newEncounter(t *testing.T, x *corpus.Exchange, delivery openai.Delivery) *encounter {
	t.Helper()
	reader, provider := newReader()
	cfg := openai.Config{Delivery: delivery, MeterProvider: provider}
	configure(t, &cfg, x.Config)
	e := &encounter{t: t, x: x, server: corpus.NewServer(x), reader: reader}
	e.plain = e.server.Transport()
	e.chain = openai.NewTransport(e.plain, cfg)
	t.Cleanup(func() {
		_ = e.chain.Close()
		e.plain.CloseIdleConnections()
		e.server.Wait()
	})
	return e
}

// configure sets the fields that a file names.
func configure(t *testing.T, cfg *openai.Config, fields map[string]string) {
	t.Helper()
	for name, value := range fields {
		field := reflect.ValueOf(cfg).Elem().FieldByName(name)
		n, known := corpusNames[value]
		if !known {
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			n = int64(d)
		}
		if !field.IsValid() || !field.CanInt() {
			t.Errorf("openai.Config has no %s that could be %s", name, value)
			continue
		}
		field.SetInt(n)
	}
}

// heard is what a caller gets of a call.
type heard struct {
	start, returned, ended time.Time
	response               *http.Response // nil beside an error
	err                    error          // of RoundTrip
	body                   []byte
	reads                  []progress
	end                    error // of the last Read
}

// A progress is how much of a body had come by when.
type progress struct {
	bytes int
	at    time.Time
}

// call makes the call of the file, and reads its answer to the end.
func (e *encounter) call(over http.RoundTripper) heard {
	e.t.Helper()
	r := e.x.Request
	req, err := http.NewRequestWithContext(context.Background(), r.Method, "http://provider.test"+r.Path, bytes.NewReader(r.Payload))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header = r.Header.Clone()
	h := heard{start: time.Now()}
	h.response, h.err = over.RoundTrip(req)
	h.returned = time.Now()
	if h.err != nil {
		return h
	}
	defer h.response.Body.Close()
	buffer := make([]byte, 32<<10)
	for h.end == nil {
		var n int
		n, h.end = h.response.Body.Read(buffer)
		h.body = append(h.body, buffer[:n]...)
		if n > 0 {
			h.reads = append(h.reads, progress{len(h.body), time.Now()})
		}
	}
	h.ended = time.Now()
	return h
}

func (e *encounter) checkRequests(want corpus.Want) {
	e.t.Helper()
	requests := e.server.Requests()
	if len(requests) != want.Requests {
		e.t.Errorf("%d requests, want %d", len(requests), want.Requests)
	}
	for i, r := range requests {
		if !bytes.Equal(r.Payload, e.x.Request.Payload) {
			e.t.Errorf("request %d has another payload: %.200q", i+1, r.Payload)
		}
	}
}

func (e *encounter) checkDelivered(got heard, want corpus.Want) {
	e.t.Helper()
	if got.err != nil {
		e.t.Errorf("RoundTrip returned %v", got.err)
		return
	}
	requests := e.server.Requests()
	answer := e.x.AnswerTo(len(requests))
	if got.response.StatusCode != answer.Status {
		e.t.Errorf("status %d, want %d", got.response.StatusCode, answer.Status)
	}
	if !bytes.Equal(got.body, answer.Body()) {
		e.t.Errorf("body of %d bytes, want %d:\n%.500q\nwant\n%.500q", len(got.body), len(answer.Body()), got.body, answer.Body())
	}
	if end := endOf(got.end); !slices.Contains(want.Read, end) {
		e.t.Errorf("the last Read ends in %s, want %s", end, strings.Join(want.Read, " or "))
	}
	if want.Ended >= 0 {
		if took := got.ended.Sub(got.when(len(got.body))); (took - want.Ended).Abs() > exact {
			e.t.Errorf("the last Read returns %v after the last byte, want %v", took, want.Ended)
		}
	}
	after, _ := answer.At(want.Returned)
	if returned := got.returned.Sub(requests[len(requests)-1].At); want.Returned != corpus.Any && (returned-after).Abs() > exact {
		e.t.Errorf("returned %v after the request, want %v", returned, after)
	}
}

// endOf names the error that ends a body.
func endOf(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{openai.ErrTruncated, "ErrTruncated"},
		{openai.ErrStalled, "ErrStalled"},
		{syscall.ECONNRESET, "reset"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, name, _ := strings.Cut(fmt.Sprintf("%T", e), "."); name == "AnswerError" {
			return name
		}
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	case err == io.EOF: //nolint:errorlint // a body's end is not wrapped
		return "EOF"
	}
	return fmt.Sprintf("%T %v", err, err)
}

// checkBooks compares what was recorded.
func (e *encounter) checkBooks(want corpus.Want) {
	e.t.Helper()
	books := collect(e.t, e.reader)
	if got := outcomes(books, "retrip.breaker.calls", "retrip.breaker.outcome"); !maps.Equal(got, want.Breaker) {
		e.t.Errorf("breaker: %v, want %v", got, want.Breaker)
	}
	if got := outcomes(books, "retrip.client.stream.outcomes", "retrip.stream.outcome"); want.Stream != nil && !maps.Equal(got, want.Stream) {
		e.t.Errorf("stream: %v, want %v", got, want.Stream)
	}
	// The conventions have renamed the histogram of inferences.
	operations := append(books.with("gen_ai.client.operation.duration"), books.with("gen_ai.client.inference.duration")...)
	if len(operations) != 1 || operations[0].count != 1 {
		e.t.Fatalf("%d operations, want 1", len(operations))
	}
	got, failed := operations[0].attrs["error.type"]
	if !failed {
		got = "none"
	}
	if !slices.Contains(want.ErrorType, got) && (!failed || want.ErrorType[0] != "any") {
		e.t.Errorf("error.type %s, want %s", got, strings.Join(want.ErrorType, " or "))
	}
}

// outcomes returns a counter's sums by the values of one attribute.
func outcomes(books collected, name, attr string) map[string]int {
	sums := map[string]int{}
	for _, s := range books.with(name) {
		if s.sum > 0 {
			sums[s.attrs[attr]] += int(s.sum)
		}
	}
	return sums
}

// checkPace makes another call at once, and looks when it is sent.
func (e *encounter) checkPace(want corpus.Want) {
	e.t.Helper()
	if want.Paces == "" {
		return
	}
	e.server.Restart()
	second := e.call(e.chain)
	requests := e.server.Requests()
	const pause = 100 * time.Millisecond
	paced := len(requests) == 0 || requests[0].At.Sub(second.start) >= pause
	if got := strconv.FormatBool(paced); got != map[string]string{"yes": "true", "no": "false"}[want.Paces] {
		e.t.Errorf("the next call is held back: %s, want %s", got, want.Paces)
	}
}

// checkLikePlain compares with what plain net/http hears of the same answer:
// nothing may be different, and nothing later than RoundTrip's return explains.
func (e *encounter) checkLikePlain(got heard) {
	e.t.Helper()
	if got.err != nil {
		return
	}
	plain := e.call(e.plain)
	if plain.err != nil || endOf(plain.end) != "EOF" {
		e.t.Fatalf("without the chain: %v, %v", plain.err, plain.end)
	}
	if !bytes.Equal(got.body, plain.body) || got.response.ContentLength != plain.response.ContentLength ||
		!reflect.DeepEqual(got.response.Header, plain.response.Header) {
		e.t.Errorf("the response is another one than without the chain:\n%v\n%v", got.response.Header, plain.response.Header)
	}
	for _, p := range plain.reads {
		want := max(p.at.Sub(plain.start), got.returned.Sub(got.start))
		if at := got.when(p.bytes).Sub(got.start); (at - want).Abs() > exact {
			e.t.Errorf("%d bytes are there after %v, want %v", p.bytes, at, want)
			return
		}
	}
	if want := max(plain.ended.Sub(plain.start), got.returned.Sub(got.start)); (got.ended.Sub(got.start) - want).Abs() > exact {
		e.t.Errorf("the end is there after %v, want %v", got.ended.Sub(got.start), want)
	}
}

// when returns when so many bytes had come.
func (h *heard) when(n int) time.Time {
	for _, p := range h.reads {
		if p.bytes >= n {
			return p.at
		}
	}
	return h.ended
}
