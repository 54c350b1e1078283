package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// errNotInstalled says that there is no prometheus to be started.
var errNotInstalled = errors.New("prometheus is not installed")

// A prometheusServer is a prometheus of our own.
type prometheusServer struct {
	url    string
	folder string
	output bytes.Buffer
	end    context.CancelFunc
	done   chan struct{} // closed when it has ended
}

const configuration = `global:
  scrape_interval: 1s
scrape_configs:
  - job_name: retrip
    static_configs:
      - targets: [%q]
`

// startPrometheus starts a prometheus that scrapes target, and returns when it
// is ready. It ends with ctx, or by stop.
func startPrometheus(ctx context.Context, target string) (*prometheusServer, error) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, errNotInstalled
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "retrip-prometheus-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, target), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	p := &prometheusServer{url: "http://" + address, folder: folder, done: make(chan struct{})}
	ctx, p.end = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program,
		"--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+address,
	)
	cmd.Stderr = &p.output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		p.end()
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// ready waits until the server answers.
func (p *prometheusServer) ready(ctx context.Context) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/-/ready", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("prometheus has ended:\n%s", p.output.Bytes())
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
			pause(ctx, 50*time.Millisecond)
		}
	}
}

// stop ends the server and removes what it stored.
func (p *prometheusServer) stop() {
	p.end()
	<-p.done
	_ = os.RemoveAll(p.folder)
}

// freeAddress returns a loopback address that nobody listens on: prometheus
// would not say which port it was given.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// A board is a row of the dashboard as a page of a Prometheus. It would not
// draw the whole dashboard on one: its older pages know ten graphs.
type board struct{ name, url string }

// boards returns the rows of the dashboard, for a server.
func boards(server string) ([]board, error) {
	dashboard, err := readDashboard()
	if err != nil {
		return nil, err
	}
	var all []board
	graphs := 0
	for _, panel := range dashboard.Panels {
		if panel.Type == "row" {
			name, _, _ := strings.Cut(strings.ToLower(panel.Title), ":")
			all = append(all, board{name, server + "/graph?"})
			graphs = 0
			continue
		}
		row := &all[len(all)-1]
		for _, target := range panel.Targets {
			expr := url.QueryEscape("# " + panel.Title + "\n" + plain(target.Expr, "10s"))
			row.url += fmt.Sprintf("g%d.range_input=1m&g%[1]d.expr=%s&g%[1]d.tab=0&", graphs, expr)
			graphs++
		}
	}
	return all, nil
}
