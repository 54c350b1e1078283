// Proxies makes the same calls through nginx and HAProxy in all their moods: by
// net/http alone, with an SDK's own retries, through retrip, and with both.
//
//	go run -C examples/proxies .
//
// It prints a table of who was answered, who got half an answer for a whole
// one, how many requests that took, and how long the first token took; and one
// of what becomes of calls that are more than a proxy lets through. With
// -write README.md the tables go there, too.
//
// It needs the programs nginx and haproxy; apt-get install nginx haproxy has
// them on Debian and Ubuntu. Each of them runs on a free loopback port, from a
// temporary folder, and is ended with its scene.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	provideIfAsked()
	page := flag.String("write", "", "a page that the table is also written into, between its marks")
	only := flag.String("only", "", "the beginning of the names of the scenes and limits that are played; empty means all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *only, *page)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run plays the scenes whose name begins with only, and prints the table, also
// into the page if there is one.
func run(ctx context.Context, w io.Writer, only, page string) error {
	if err := missing(); err != nil {
		return err
	}
	plays, err := playAll(ctx, named(only))
	if err != nil {
		return err
	}
	crossed, err := crossAll(ctx, crowdsNamed(only))
	if err != nil {
		return err
	}
	text := table(ctx, plays) + "\n" + crossings(crossed)
	fmt.Fprint(w, text)
	if page == "" {
		return nil
	}
	return write(page, text)
}
