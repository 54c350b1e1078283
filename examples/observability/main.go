// Observability shows what retrip's metrics look like on a board.
//
//	go run -C examples/observability . -for 5m
//
// It starts openaitest as the provider, which has good and bad times, a load
// of chats, streams, embeddings and responses through the whole chain, and
// OpenTelemetry's Prometheus exporter on a loopback port. Where a prometheus
// is installed (Debian: apt-get install prometheus) it is started, too, with a
// configuration and a store that are gone afterwards, and what is printed as
// board leads to the queries of the dashboard, drawn.
//
// dashboard.json is that dashboard for Grafana: import it and choose a
// Prometheus that scrapes your services. alerts.yml has rules and alerts for that
// Prometheus. Both expect the exporter's names with underscores and suffixes, see
// newProvider.
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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
)

func main() {
	address := flag.String("addr", "127.0.0.1:9464", "where to serve the metrics; port 0 is any that is free")
	duration := flag.Duration("for", 30*time.Second, "how long to run")
	picture := flag.String("picture", "", "draw the dashboard into NAME.png and NAME-narrow.png in the end; needs prometheus")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, *duration)
	err := run(ctx, os.Stdout, *address, *picture, min(*duration, time.Minute))
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs until ctx is over. In each cycle the provider goes through all its
// times once. A picture is the name of the files that the dashboard is drawn into in
// the end, "" for none.
func run(ctx context.Context, w io.Writer, address, picture string, cycle time.Duration) error {
	registry := prometheus.NewRegistry()
	provider, err := newProvider(registry)
	if err != nil {
		return err
	}
	defer provider.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // the process ends

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer server.Close() //nolint:errcheck // the process ends
	fmt.Fprintf(w, "metrics:    http://%s/metrics\n", listener.Addr())

	// It is asked for the last time when ctx is over.
	scraper, err := startPrometheus(context.WithoutCancel(ctx), listener.Addr().String())
	switch {
	case errors.Is(err, errNotInstalled):
		fmt.Fprintln(w, "prometheus: not installed; one of yours may scrape the metrics")
	case err != nil:
		return err
	default:
		defer scraper.stop()
		rows, err := boards(scraper.url)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "prometheus: %s\n", scraper.url)
		for _, row := range rows {
			mux.Handle("GET /board/"+row.name, http.RedirectHandler(row.url, http.StatusFound))
			fmt.Fprintf(w, "board:      http://%s/board/%s\n", listener.Addr(), row.name)
		}
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	l := newLoad(provider, cycle) //nolint:contextcheck // the transport outlives every context
	defer l.close()
	start := time.Now()
	l.run(ctx)
	fmt.Fprintf(w, "%d calls were made\n", l.made.Load())
	if picture != "" && scraper != nil {
		if err := drawBoard(context.WithoutCancel(ctx), scraper.url, spanOf(start, time.Now()), picture); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s.png and %[1]s-narrow.png were drawn\n", picture)
	}
	select {
	case err := <-served:
		return err
	default:
		return nil
	}
}

// newProvider returns a MeterProvider whose metrics the registry collects.
func newProvider(registry prometheus.Registerer) (*metric.MeterProvider, error) {
	reader, err := exporter.New(
		exporter.WithRegisterer(registry),
		// gen_ai_client_inference_duration_seconds, retrip_retries_total: said
		// here because the exporter's default is about to change.
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		exporter.WithoutScopeInfo(), // the names tell enough
	)
	if err != nil {
		return nil, err
	}
	return metric.NewMeterProvider(metric.WithReader(reader)), nil
}
