package openai

import (
	"io"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/json"
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
		a := streamTo(t, chatPath, body)
		a.wanted = wanted{stream: true, whole: true}
		_ = d.holdWhole(prefetch.New(a, noCancel), a.enough)
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
