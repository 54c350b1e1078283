package main

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"
)

func output(t *testing.T, play func(context.Context, io.Writer) error) string {
	t.Helper()
	var out strings.Builder
	if err := play(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestStory(t *testing.T) {
	t.Parallel()
	got := regexp.MustCompile(`(?m)^ *\d+ ms  `).ReplaceAllString(output(t, story), "")
	const want = `
All is well
home: 200

Home answers 503 once
home: 503, then dead: no connection, then second: 200

A mistake of the caller's own is answered by home alone
home: 400

Home is rate limited for a minute: nobody waits for it
home: 429, then dead: no connection, then second: 200
dead: no connection, then second: 200
`
	if got != want {
		t.Errorf("the output is\n%swant\n%s", got, want)
	}
}

func TestDeployments(t *testing.T) {
	t.Parallel()
	got := output(t, deployments)
	if want := regexp.MustCompile(`^both are well: of 400 calls reserved got (2[6-9]|3[0-4])\d requests, by-use \d+
reserved is used up: of 100 calls reserved got [1-9]\d? requests, by-use 100
$`); !want.MatchString(got) {
		t.Errorf("the output is\n%s", got)
	}
}
