package openai

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/prefetch"
)

// An eventsBody brings one event after the other.
type eventsBody struct{ read int64 }

func (b *eventsBody) Read(p []byte) (int, error) {
	n := copy(p, "data: x\n\n")
	b.read += int64(n)
	return n, nil
}

func (b *eventsBody) Close() error { return nil }

func TestTheRoomForAllStreamsThatAreHeldIsBounded(t *testing.T) {
	t.Parallel()
	if maxWholeAll != 512<<20 || maxWhole != 64<<20 {
		t.Errorf("%d bytes of one stream and %d of all are held", maxWhole, maxWholeAll)
	}
	const left = 64 << 10
	for name, taken := range map[string]int64{"some room": maxWholeAll - left, "no room": maxWholeAll} {
		d := delivery{mode: Whole}
		d.whole.Store(taken) // by other streams
		body := new(eventsBody)
		a := &answer{src: body, kind: streamAnswer, stream: new(stream), watcher: new(watcher), request: new(http.Request)}
		d.holdWhole(prefetch.New(a, noCancel), a)
		if body.read > maxWholeAll-taken+4<<10 {
			t.Errorf("%s: %d bytes are held", name, body.read)
		}
		if d.whole.Load() != taken {
			t.Errorf("%s: %d bytes are taken for good", name, d.whole.Load()-taken)
		}
	}
}

func TestWhatIsRememberedOfAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, in := range []string{
		`{"error":"` + long, `{"usage":{"` + long, `{"model":"` + long, `{"` + long, `{"error":` + strings.Repeat("[", 1<<20),
	} {
		var c jsonCheck
		for piece := range slices.Chunk([]byte(in), 1000) {
			c.feed(piece)
		}
		if cap(c.before) > 2*maxValue || c.piece != nil {
			t.Errorf("%.12s…: %d bytes are kept", in, cap(c.before))
		}
	}
	var c jsonCheck
	c.feed([]byte(`{"model":"` + strings.Repeat("x", 1000) + `","choices":[]}`))
	if n := len(c.facts.model); n > maxModel {
		t.Errorf("a model's name of %d bytes", n)
	}
	var s stream
	s.readChunk([]byte(`{"choices":[{"delta":{` + strings.Repeat(`"a":"b",`, 1<<17) + `"a":"b"}}]}`))
	if cap(s.last.gaps) > 4*maxGaps {
		t.Errorf("%d gaps of an event are kept", cap(s.last.gaps))
	}
	if e := parseAPIError([]byte(`{"error":{"code":"` + long + `","type":"` + long[:maxLabel+1] + `"}}`)); e == nil || e.code != "" || e.kind != "" {
		t.Error("a code of any length is believed")
	}
	if n, ok := count([]byte("1099511627777")); ok {
		t.Errorf("%d tokens are believed", n)
	}
}
