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
	"strconv"
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

// boardURL returns the address of a page of the server on which all queries of
// the dashboard are drawn.
func boardURL(server string) (string, error) {
	board, err := readDashboard()
	if err != nil {
		return "", err
	}
	values := url.Values{}
	n := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			prefix := "g" + strconv.Itoa(n) + "."
			values.Set(prefix+"expr", "# "+panel.Title+"\n"+plain(target.Expr, "10s"))
			values.Set(prefix+"tab", "0")
			values.Set(prefix+"range_input", "5m")
			n++
		}
	}
	return server + "/graph?" + values.Encode(), nil
}
