package fleet

import (
	"strconv"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// What is read again after a reconnect differs by as much as the clocks do. It must not
// make a breaker wary again that has had a success since.
func TestWhatIsReadAgainIsNoNews(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Minute)
	for name, row := range map[string]struct {
		then breaker.Advice
		news bool
	}{
		"the same":                 {breaker.Advice{Name: "n", Origin: "o", Until: until}, false},
		"a reading apart":          {breaker.Advice{Name: "n", Origin: "o", Until: until.Add(limit - time.Millisecond)}, false},
		"a shorter one":            {breaker.Advice{Name: "n", Origin: "o", Until: until.Add(-time.Minute)}, false},
		"a longer one":             {breaker.Advice{Name: "n", Origin: "o", Until: until.Add(limit)}, true},
		"about another":            {breaker.Advice{Name: "m", Origin: "o", Until: until}, true},
		"by another, of the same":  {breaker.Advice{Name: "n", Origin: "p", Until: until}, true},
		"a name split another way": {breaker.Advice{Name: "", Origin: "on", Until: until}, true},
	} {
		b := new(board)
		b.subscribe(func(breaker.Advice) {})
		b.post(breaker.Advice{Name: "n", Origin: "o", Until: until})
		if news := len(b.post(row.then)) > 0; news != row.news {
			t.Errorf("%s: news %v", name, news)
		}
	}
}

// Whoever publishes a lot neither fills the memory nor keeps others from being heard.
func TestAFullBoardForgetsWhatIsOver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, row := range map[string]struct {
		over, holds, want int
	}{
		"what holds stays":          {0, maxKnown, maxKnown},
		"what is over makes room":   {maxKnown, 0, 1},
		"as much as there is of it": {10, maxKnown - 10, maxKnown - 9},
	} {
		b := new(board)
		b.subscribe(func(breaker.Advice) {})
		for i := range row.over {
			b.post(breaker.Advice{Name: "over " + strconv.Itoa(i), Until: now.Add(-time.Second)})
		}
		for i := range row.holds {
			b.post(breaker.Advice{Name: "holds " + strconv.Itoa(i), Until: now.Add(time.Hour)})
		}
		heard := len(b.post(breaker.Advice{Name: "new", Until: now.Add(time.Hour)}))
		if heard != 1 || len(b.known) != row.want {
			t.Errorf("%s: %d are known, want %d; %d subscribers heard", name, len(b.known), row.want, heard)
		}
	}
}
