// Statuspage shows all breakers of a Transport on a page that can be read on a
// phone, and as JSON: their states, since when, what they counted, when they
// will be probed, the rate limits that are exhausted, and the last transitions.
//
//	go run -C examples ./statuspage
//
// The provider is openaitest, in this process: one model goes down again and
// again, one is rate limited, two are well. In a service of your own, copy
// page.go and page.html and put this together:
//
//	var changes Changes
//	cfg.Breaker.OnStateChange = changes.Add
//	transport := retrip.NewTransport(nil, cfg)
//	http.Handle("/breakers/", http.StripPrefix("/breakers", NewHandler(transport.Snapshot, &changes)))
//
// The page shows hosts and the names of models: keep it among colleagues.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

func main() {
	address := flag.String("addr", "127.0.0.1:8080", "where to serve the page; port 0 is any that is free")
	duration := flag.Duration("for", 10*time.Minute, "how long to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, *duration)
	err := run(ctx, os.Stdout, *address)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// openDuration is short, so that there is something to see; the default is 30 s.
const openDuration = 8 * time.Second

// run serves the page until ctx is over.
func run(ctx context.Context, w io.Writer, address string) error {
	provider := openaitest.NewServer()
	defer provider.Close()

	var changes Changes
	var cfg retrip.Config
	cfg.Breaker.OnStateChange = changes.Add
	cfg.Breaker.OpenDuration = openDuration
	cfg.Retry.MaxAttempts = 2                  // an outage is noticed sooner
	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                    //nolint:errcheck // the process ends
	defer transport.CloseIdleConnections()

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: NewHandler(transport.Snapshot, &changes), ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(w, "the page: http://%s/\nas JSON:  http://%[1]s/breakers.json\n", listener.Addr())

	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() { haveBadDays(ctx, provider) })
	for _, c := range calls {
		group.Go(func() { c.repeat(ctx, &http.Client{Transport: transport}, provider.URL) })
	}
	group.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
