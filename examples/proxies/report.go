package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// table shows what was played.
func table(ctx context.Context, plays []played) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s, %s %s/%s, `go run -C examples/proxies .`\n\n", time.Now().Format(time.DateOnly),
		version(ctx, "nginx"), version(ctx, "haproxy"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b.WriteString("| what happens | under the calls | answered | halves | requests a call | first token |\n|---|---|---|---|---|---|\n")
	for _, p := range plays {
		name := p.name
		for _, r := range p.results {
			first := "–"
			if r.first > 0 {
				first = fmt.Sprintf("%d ms", r.first.Milliseconds())
			}
			fmt.Fprintf(&b, "| %s | %s | %d of %d | %d | %.2f | %s |\n", name, r.name, r.answered, r.calls, r.halves, float64(r.requests)/float64(r.calls), first)
			name = ""
		}
	}
	return b.String()
}

// crossings shows what came of crowds.
func crossings(list []crossing) string {
	var b strings.Builder
	b.WriteString("| limit of 40/s | calls | under the calls | failed | refused an answer | seconds |\n|---|---|---|---|---|---|\n")
	for _, x := range list {
		name, calls := x.name, fmt.Sprintf("%d, %d at a time", x.callers*x.calls, x.callers)
		for _, y := range x.tallies {
			fmt.Fprintf(&b, "| %s | %s | %s | %d | %.2f | %.1f |\n", name, calls, y.way, y.failed, y.perAnswer(), y.took.Seconds())
			name, calls = "", ""
		}
	}
	return b.String()
}

// version returns a program's name and version.
func version(ctx context.Context, program string) string {
	text, _ := exec.CommandContext(ctx, program, "-v").CombinedOutput()
	number := regexp.MustCompile(`[0-9]+(\.[0-9]+)+`).Find(text)
	return program + " " + string(number)
}

const begin, end = "<!-- begin: printed by examples/proxies -->\n", "<!-- end -->\n"

// write puts the table between its marks into a page.
func write(page, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(old), begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return errors.New(page + " has no marks for the table")
	}
	return os.WriteFile(page, []byte(before+begin+"\n"+text+"\n"+end+after), 0o644)
}
