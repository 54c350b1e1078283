package openai

import (
	"io"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/json"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// An eventsBody brings one event after the other, the first ones of which bring
// nothing.
type eventsBody struct{ read, pings int64 }

func (b *eventsBody) Read(p []byte) (int, error) {
	event := `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n"
	if b.pings--; b.pings >= 0 {
		event = ": ping\n\n"
	}
	n := copy(p, event)
	b.read += int64(n)
	return n, nil
}

func (b *eventsBody) Close() error { return nil }

func TestTheRoomForAllStreamsThatAreHeldIsBounded(t *testing.T) {
	t.Parallel()
	if maxWholeAll != 512<<20 || maxWhole != 64<<20 {
		t.Errorf("%d bytes of one stream and %d of all are held", maxWhole, maxWholeAll)
	}
	const most = 4 << 10 // beyond the room: a buffer
	for name, row := range map[string]struct{ left, pings, read int64 }{
		"some room":                        {64 << 10, 0, 64 << 10},
		"no room":                          {0, 0, most},
		"no room, and pings":               {0, 1000, 1000*8 + most},
		"some room, and pings":             {1 << 10, 1000, 1000*8 + most},
		"no room, and nothing but pings":   {0, 1 << 40, maxFirstEvent},
		"some room, and nothing but pings": {64 << 10, 1 << 40, maxFirstEvent},
	} {
		d := newDelivery(&Config{Delivery: Whole})
		d.whole.Limit = row.left // of other streams
		body := &eventsBody{pings: row.pings}
		held := holdWhole(t, d, body)
		if body.read > row.read || body.read < min(row.pings*8, maxFirstEvent) {
			t.Errorf("%s: %d bytes are held, want %d at most", name, body.read, row.read)
		}
		if n := len(held.Prefetched()); row.pings < 1000_000 && n <= int(row.pings)*8 {
			t.Errorf("%s: a stream is handed over before its first event, after %d bytes", name, n)
		}
		if n := d.whole.Taken(); n > row.left {
			t.Errorf("%s: %d bytes count", name, n)
		}
		if _ = held.Close(); d.whole.Taken() != 0 {
			t.Errorf("%s: %d bytes count after that", name, d.whole.Taken())
		}
	}
}

// holdWhole has d hold a stream.
func holdWhole(t *testing.T, d *delivery, src io.ReadCloser) *prefetch.Body {
	t.Helper()
	a := streamTo(t, chatPath, src)
	body := prefetch.New(a, noCancel)
	d.hold(body, a, -1, maxFirstEventWait)
	return body
}

func TestAStreamThatIsHeldCountsUntilItIsReadOrClosed(t *testing.T) {
	t.Parallel()
	stream := strings.Repeat(`data: {"choices":[{"index":0,"delta":{"content":"x"}}]}`+"\n\n", 1000) + "data: [DONE]\n\n"
	for name, end := range map[string]func(body io.ReadCloser){
		"read":        func(body io.ReadCloser) { _, _ = io.ReadAll(body) },
		"closed":      func(body io.ReadCloser) { _ = body.Close() },
		"read in two": func(body io.ReadCloser) { _, _ = io.CopyN(io.Discard, body, 100); _, _ = io.ReadAll(body) },
		"closed amid": func(body io.ReadCloser) { _, _ = io.CopyN(io.Discard, body, 100); _ = body.Close() },
	} {
		d := newDelivery(&Config{Delivery: Whole})
		body := holdWhole(t, d, io.NopCloser(strings.NewReader(stream)))
		if n := d.whole.Taken(); n < int64(len(stream)) {
			t.Errorf("%s: %d bytes of %d count once they are handed over", name, n, len(stream))
		}
		if end(body); d.whole.Taken() != 0 {
			t.Errorf("%s: %d bytes count after that", name, d.whole.Taken())
		}
		_ = body.Close()
		if n := d.whole.Taken(); n != 0 {
			t.Errorf("%s: %d bytes count after it was closed once more", name, n)
		}
	}
}

func TestWhatIsRememberedOfAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, in := range []string{`{"model":"` + long + `","choices":[]}`, `{"error":"` + long + `"}`, `{"usage":{"` + long, "<" + long, "\n\n" + long} {
		a := answerTo(t, chatPath, "application/json", &pieces{[]byte(in), 1000}, -1)
		_, _ = io.ReadAll(a)
		if n := len(a.json.facts.model); n > maxModel {
			t.Errorf("%.12s…: a model's name of %d bytes", in, n)
		}
		if n := cap(a.kept); n > 2*maxKept {
			t.Errorf("%.12s…: %d bytes are kept", in, n)
		}
	}
	events := new(chunk)
	events.event(new(stream), nil, []byte(`{"choices":[{"delta":{`+strings.Repeat(`"a":"b",`, 1<<17)+`"a":"b"}}]}`))
	if cap(events.last.gaps) > 4*maxGaps {
		t.Errorf("%d gaps of an event are kept", cap(events.last.gaps))
	}
	if e := readErrorBody([]byte(`{"error":{"code":"` + long + `","type":"` + long[:maxLabel+1] + `"}}`)); e != (apiError{}) {
		t.Error("a code of any length is believed")
	}
	if n, ok := json.Count([]byte("1099511627777")); ok {
		t.Errorf("%d tokens are believed", n)
	}
}
