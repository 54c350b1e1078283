package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	small  = 1 << 10
	large  = 10 << 20
	events = 2000
)

// speedReport measures everything anew.
func speedReport(ctx context.Context, e effort) (string, error) {
	cores := runtime.GOMAXPROCS(0)
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s %s/%s, %d × %s, `%s speed`, the least of %d rounds; in parallel: on %d goroutines\n",
		time.Now().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, cores, cpu(), command, e.rounds, cores)
	for _, part := range []struct {
		title      string
		contenders []contender
		goroutines int // of the second measuring; 0 means none
		table      func(contenders []contender, costs, parallel []cost) string
	}{
		{
			"1 KiB there, 1 KiB of JSON back",
			callers(ctx, chat(small, false), func() *stub { return newStub("application/json", completion(), 0) }),
			cores, callTable,
		},
		{
			"10 MiB there, 503, 503, 1 KiB of JSON back",
			repeaters(ctx, chat(large, false), func() *stub { return newStub("application/json", completion(), 2) }),
			0, payloadTable,
		},
		{
			fmt.Sprintf("1 KiB there, a stream of %d events back, read through 32 KiB (bare copies memory)", events),
			callers(ctx, chat(small, true), func() *stub { return newStub("text/event-stream", stream(events), 0) }),
			cores, streamTable,
		},
		{"a breaker alone admits a call and hears of its success", breakers(), 64, breakerTable},
	} {
		costs, err := measured(ctx, part.contenders, 1, e)
		var parallel []cost
		if err == nil && part.goroutines > 0 {
			parallel, err = measured(ctx, part.contenders, part.goroutines, e)
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n%s:\n\n%s", part.title, part.table(part.contenders, costs, parallel))
	}
	return b.String(), nil
}

// cpu names the processor where that is easily known.
func cpu() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // not there on other systems
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "CPU"
}

// callTable compares with the first, which is bare. Those that do the same stand together.
func callTable(contenders []contender, costs, parallel []cost) string {
	rows := make([][]string, 0, len(costs))
	for i, c := range costs {
		rows = append(rows, []string{
			contenders[i].name, contenders[i].does, number(c.time), number(c.time - costs[0].time),
			number(parallel[i].time), number(parallel[i].time - parallel[0].time), number(c.allocs), number(c.bytes),
		})
	}
	return table(2, []string{"", "does", "ns a call", "added", "ns in parallel", "added", "allocations", "bytes"}, rows)
}

// streamTable tells time by the event, too.
func streamTable(contenders []contender, costs, parallel []cost) string {
	rows := make([][]string, 0, len(costs))
	for i, c := range costs {
		rows = append(rows, []string{
			contenders[i].name, contenders[i].does, number(c.time), number(c.time / events), number(parallel[i].time),
			number(c.allocs), number(c.bytes),
		})
	}
	return table(2, []string{"", "does", "ns a call", "ns an event", "ns a call in parallel", "allocations", "bytes"}, rows)
}

// payloadTable tells memory by the payload's size.
func payloadTable(contenders []contender, costs, _ []cost) string {
	rows := make([][]string, 0, len(costs))
	for i, c := range costs {
		rows = append(rows, []string{
			contenders[i].name, number(c.time), number(c.allocs), ratio(float64(c.bytes), large),
			ratio(float64(c.time), float64(costs[0].time)),
		})
	}
	return table(1, []string{"", "ns a call", "allocations", "payloads allocated", "× bare"}, rows)
}

func breakerTable(contenders []contender, costs, parallel []cost) string {
	rows := make([][]string, 0, len(costs))
	for i, c := range costs {
		rows = append(rows, []string{contenders[i].name, number(c.time), number(parallel[i].time), number(c.allocs), number(c.bytes)})
	}
	return table(1, []string{"", "ns", "ns on 64 goroutines", "allocations", "bytes"}, rows)
}

// number has its thousands apart.
func number[N ~int64 | ~uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(digits) - 3; i > start; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func ratio(a, b float64) string { return fmt.Sprintf("%.2f", a/b) }
