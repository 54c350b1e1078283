package main

import (
	"context"
	"testing"
	"time"
)

func TestNoCallFailsForALimitThatItCanWaitFor(t *testing.T) {
	t.Parallel()
	if !installed(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	crossed, err := crossAll(ctx, crowds())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", crossings(crossed))
	for _, x := range crossed {
		if broken := x.breaks(); broken != "" {
			t.Errorf("%s, %d at a time: %s", x.name, x.callers, broken)
		}
	}
}

func TestTheRuleOfLimitsIsAboutFailuresAndRefusals(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		mayFail     bool
		ours, naive tally
		broken      bool
	}{
		"none failed":        {false, tally{refused: 3}, tally{failed: 9, refused: 3}, false},
		"one failed":         {false, tally{failed: 1}, tally{failed: 9}, true},
		"one failed, it may": {true, tally{failed: 1}, tally{}, false},
		"refused more often": {false, tally{refused: 4}, tally{refused: 3}, true},
	} {
		row.ours.way, row.naive.way = "retrip", "naive loop"
		x := crossing{crowd{mayFail: row.mayFail}, []tally{row.naive, row.ours}}
		if got := x.breaks(); (got != "") != row.broken {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhoIsAnsweredPaysForWhoWasRefused(t *testing.T) {
	t.Parallel()
	if got := (tally{calls: 10, failed: 6, refused: 8}).perAnswer(); got != 2 {
		t.Error(got)
	}
}
