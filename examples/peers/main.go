// Peers puts retrip beside what else makes HTTP calls resilient.
//
//	go run -C examples/peers . contract
//	go run -C examples/peers . speed
//
// The first puts everybody to the rules of internal/contract and prints who
// keeps how many, and who breaks which; with -why also how. The second does
// the same work through everybody in one run and prints what it costs. With
// -write README.md the tables go there, too.
//
// Everybody is configured for the same purpose, as its documentation
// recommends: 4 attempts for 408, 429, 500, 502, 503, 504 and lost
// connections, a backoff of 500 ms that doubles, a breaker that opens after 5
// failures in a row.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

// command prints the tables, from the repository's root.
const command = "go run -C examples/peers ."

func main() {
	page := flag.String("write", "", "a page that the table is also written into, between its marks")
	why := flag.Bool("why", false, "also tell on standard error how each rule is broken")
	rounds := flag.Int("rounds", 9, "how often each cost is measured; the least one is printed")
	length := flag.Duration("for", 20*time.Millisecond, "how long each measuring takes")
	flag.Parse()
	if p, rule, ok := asked(all(), flag.Args()); ok {
		examine(p, rule)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	report := map[string]func() (string, error){
		"contract": func() (string, error) {
			records, err := examined(ctx, all())
			if *why {
				fmt.Fprint(os.Stderr, reasons(records))
			}
			return contractReport(records), err
		},
		"speed": func() (string, error) { return speedReport(ctx, effort{max(1, *rounds), *length}) },
	}[flag.Arg(0)]
	err := run(os.Stdout, flag.Arg(0), report, *page)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run prints the report, and writes it into the page if there is one.
func run(w io.Writer, name string, report func() (string, error), page string) error {
	if report == nil {
		return errors.New("usage: " + command + " [flags] contract|speed")
	}
	text, err := report()
	if err != nil {
		return err
	}
	fmt.Fprint(w, text)
	if page == "" {
		return nil
	}
	return write(page, name, text)
}
