package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheContractTable(t *testing.T) {
	rules := []string{"a/one", "a/two", "a/three", "b/1/one", "c/one"}
	got := contractReport([]record{
		{peer: peer{name: "good"}, rules: rules},
		{peer: peer{name: "bad"}, rules: rules, broken: map[string]string{"a/one": "so", "a/two": "so", "a/three": "so", "b/1/one": "so"}},
		{peer: peer{name: "worse"}, rules: rules[:3], broken: map[string]string{"a/two": "so\nand so"}},
	})
	want := `| peer | version | rules kept |
|---|---|---|
| good |  | 5 of 5 |
| bad |  | 1 of 5 |
| worse |  | 2 of 3 |

| broken rule | in the case | by |
|---|---|---|
| a | one; three | bad |
| a | two | bad, worse |
| b/1 | one | bad |
`
	if !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwithout\n%s", got, want)
	}
	for _, u := range uncounted {
		if !strings.Contains(got, u.reason) {
			t.Errorf("does not tell that %s", u.reason)
		}
	}
}

func TestReasonsAreTheFirstLines(t *testing.T) {
	got := reasons([]record{{peer: peer{name: "p"}, rules: []string{"a/1", "a/2"}, broken: map[string]string{"a/2": "so\nand so"}}})
	if got != "p: a/2: so\n" {
		t.Errorf("got %q", got)
	}
}

func TestTheSpeedTables(t *testing.T) {
	contenders := []contender{{name: "bare"}, {name: "other", does: "retry"}}
	costs := []cost{{time: 1000, allocs: 1, bytes: 5 << 20}, {time: 2500, allocs: 1234, bytes: 10 << 20}}
	parallel := []cost{{time: 500}, {time: 700}}
	for name, row := range map[string]struct {
		table func(contenders []contender, costs, parallel []cost) string
		last  string
	}{
		"calls":    {callTable, "| other | retry | 2,500 | 1,500 | 700 | 200 | 1,234 | 10,485,760 |\n"},
		"payloads": {payloadTable, "| other | 2,500 | 1,234 | 1.00 | 2.50 |\n"},
		"streams":  {streamTable, "| other | retry | 2,500 | 1 | 700 | 1,234 | 10,485,760 |\n"},
		"breakers": {breakerTable, "| other | 2,500 | 700 | 1,234 | 10,485,760 |\n"},
	} {
		got := row.table(contenders, costs, parallel)
		lines := strings.SplitAfter(got, "\n")
		if len(lines) != 5 || lines[3] != row.last {
			t.Errorf("%s: got\n%s", name, got)
		}
		for _, line := range lines[:4] {
			if strings.Count(line, "|") != strings.Count(row.last, "|") {
				t.Errorf("%s: %q has another number of cells", name, line)
			}
		}
	}
}

func TestTheSpeedReportHasATableForEachWork(t *testing.T) {
	got, err := speedReport(t.Context(), effort{rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got, "\n|---|"); n != 4 {
		t.Errorf("%d tables in\n%s", n, got)
	}
	for _, want := range []string{"| bare |", "| bare, sent again by hand |", "| retrip with an SDK meter |", "| rehttp + gobreaker over otelhttp |", "| gobreaker |"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := speedReport(over, effort{rounds: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it ends with %v", err)
	}
}

func TestAReportIsPrintedAndWritten(t *testing.T) {
	begin, end := marks("speed")
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(begin+end), 0o600); err != nil {
		t.Fatal(err)
	}
	report := func() (string, error) { return "fast\n", nil }
	var out strings.Builder
	if err := run(&out, "speed", report, file); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || out.String() != "fast\n" || string(got) != begin+"\nfast\n\n"+end {
		t.Errorf("printed %q, written %q, %v", out.String(), got, err)
	}
	if run(&out, "sped", nil, "") == nil {
		t.Error("a report that does not exist is no error")
	}
	failed := errors.New("no")
	if err := run(&out, "speed", func() (string, error) { return "", failed }, ""); !errors.Is(err, failed) {
		t.Errorf("the error is %v", err)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", -999: "-999", -1000: "-1,000", 123456: "123,456", 1234567: "1,234,567",
	} {
		if got := number(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}

func TestABarInACellIsEscaped(t *testing.T) {
	if got := table(1, []string{"x"}, [][]string{{"a|b"}}); got != "| x |\n|---|\n| a\\|b |\n" {
		t.Errorf("got %q", got)
	}
}

func TestMeasuredTakesTurnsAndTheLeast(t *testing.T) {
	var turns []string
	sink := make([][]byte, 1)
	work := func(name string, size int) contender {
		return contender{name: name, worker: func() func() error {
			turns = append(turns, name)
			return func() error {
				sink[0] = make([]byte, size)
				return nil
			}
		}}
	}
	costs, err := measured(t.Context(), []contender{work("a", 1<<10), work("b", 1<<12)}, 1, effort{3, time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if last := strings.Join(turns[len(turns)-6:], ""); last != "ababab" {
		t.Errorf("turns %s", last)
	}
	for i, size := range []uint64{1 << 10, 1 << 12} {
		if c := costs[i]; c.allocs != 1 || c.bytes < size || c.bytes > size+size/4 || c.time <= 0 {
			t.Errorf("%d bytes cost %+v", size, c)
		}
	}
	failed := errors.New("no")
	fails := contender{worker: func() func() error { return func() error { return failed } }}
	if _, err := measured(t.Context(), []contender{fails}, 1, effort{1, time.Millisecond}); !errors.Is(err, failed) {
		t.Errorf("the error is %v", err)
	}
}

func TestATableReplacesTheOneBetweenItsMarks(t *testing.T) {
	begin, end := marks("contract")
	page := "before\n" + begin + "old\n" + end + "after\n"
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := write(file, "contract", "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := "before\n" + begin + "\nnew\n\n" + end + "after\n"; err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if write(file, "speed", "new\n") == nil {
		t.Error("a page without marks is taken")
	}
}

func TestTheREADMEHasTheMarks(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"contract", "speed"} {
		if _, err := replaced(page, name, ""); err != nil {
			t.Error(err)
		}
	}
}
