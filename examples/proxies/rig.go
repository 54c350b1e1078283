package main

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A rig is a provider and the proxy before it, if the scene has one.
type rig struct {
	dir      string
	proxied  proxy
	upstream string
	address  string
	secure   string // the certificate's file; empty: HTTP/1.1 without TLS
	roots    *x509.CertPool

	key string // that its provider wants

	provider, proxy *process
}

// newRig starts both. It belongs to the caller, also if it is incomplete.
func newRig(ctx context.Context, s *scene, key string) (*rig, error) {
	r := &rig{proxied: s.proxy, key: key}
	var err error
	if r.dir, err = os.MkdirTemp("", "retrip-proxies-"); err != nil {
		return r, err
	}
	if s.http2 {
		if r.secure, r.roots, err = certify(r.dir); err != nil {
			return r, err
		}
	}
	if r.upstream, err = freeAddress(ctx); err != nil {
		return r, err
	}
	r.address = r.upstream
	if err := r.startProvider(ctx); err != nil || s.proxy == nil {
		return r, err
	}
	if r.address, err = freeAddress(ctx); err != nil {
		return r, err
	}
	return r, r.startProxy(ctx)
}

func (r *rig) startProvider(ctx context.Context) error {
	cmd, err := providerCommand(ctx, r.upstream, r.key)
	if err != nil {
		return err
	}
	r.provider, err = start(ctx, cmd, r.upstream)
	return err
}

func (r *rig) startProxy(ctx context.Context) error {
	cmd, err := r.proxied.command(ctx, r.dir, r.address, r.upstream, r.secure)
	if err != nil {
		return err
	}
	r.proxy, err = start(ctx, cmd, r.address)
	return err
}

// close ends what runs, and removes what was written.
func (r *rig) close() {
	r.proxy.stop()
	r.provider.kill()
	if r.dir != "" {
		_ = os.RemoveAll(filepath.Clean(r.dir))
	}
}

// url is where the calls go.
func (r *rig) url() string {
	if r.secure != "" {
		return "https://" + r.address
	}
	return "http://" + r.address
}

// An incident happens while calls are made.
type incident func(ctx context.Context, r *rig) error

// outage is how long what restarts is away.
const outage = 200 * time.Millisecond

func killProvider(ctx context.Context, r *rig) error {
	wait(ctx, 250*time.Millisecond)
	r.provider.kill()
	return nil
}

// stopProvider freezes it for good.
func stopProvider(ctx context.Context, r *rig) error {
	wait(ctx, 250*time.Millisecond)
	return r.provider.signal(syscall.SIGSTOP)
}

func restartProvider(ctx context.Context, r *rig) error {
	wait(ctx, 250*time.Millisecond)
	r.provider.kill()
	wait(ctx, outage)
	return r.startProvider(ctx)
}

// restartProxy ends the proxy at once, as SIGTERM does, and what is under way.
func restartProxy(ctx context.Context, r *rig) error {
	wait(ctx, 250*time.Millisecond)
	r.proxy.stop()
	wait(ctx, outage)
	return r.startProxy(ctx)
}

func reloadProxy(ctx context.Context, r *rig) error {
	for range 3 {
		wait(ctx, 250*time.Millisecond)
		if err := r.proxy.signal(r.proxied.reloading()); err != nil {
			return err
		}
	}
	return nil
}

func freezeProvider(ctx context.Context, r *rig) error {
	wait(ctx, 250*time.Millisecond)
	if err := r.provider.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	wait(ctx, 700*time.Millisecond)
	return r.provider.signal(syscall.SIGCONT)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
