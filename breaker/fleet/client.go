package fleet

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// connections is how many a private client may have besides its subscription's. It
// uses one, as long as that works.
const connections = 2

// resp is the version of the protocol that a private client speaks. The third has
// answers at which go-redis panics, as a map with a list for a key.
const resp = 2

// privateOf returns a client of ours for what client is connected to. Of a kind that
// is not known there is none: then it returns client itself, and false. The service's own
// client may wait for minutes and retry as its calls need it, and its pool may be used up
// by those. Advice must neither wait for them nor take their connections.
func privateOf(client redis.UniversalClient) (private redis.UniversalClient, ok bool) {
	switch client := client.(type) {
	case *redis.Client:
		opt := *client.Options()
		opt.Dialer = bounded(opt.Dialer)
		opt.ContextTimeoutEnabled = true
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = limit, limit, limit, limit
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = connections, 0, 1, 0
		opt.MaxRetries = 1 // the connection may have been closed meanwhile
		opt.Protocol = resp
		opt.Limiter = nil
		return redis.NewClient(&opt), true
	case *redis.ClusterClient:
		opt := *client.Options()
		opt.Dialer = bounded(dialer(opt))
		opt.ContextTimeoutEnabled = true
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = limit, limit, limit, limit
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = connections, 0, 1, 0
		opt.Protocol = resp
		opt.NewClient = nil
		return redis.NewClusterClient(&opt), true
	default:
		return client, false
	}
}

type dial = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns how a cluster's nodes are dialled, which go-redis makes up for each
// of them where the options do not say it.
func dialer(opt redis.ClusterOptions) dial {
	if opt.Dialer != nil {
		return opt.Dialer
	}
	return redis.NewDialer(&redis.Options{DialTimeout: limit, TLSConfig: opt.TLSConfig})
}

// bounded has connections refuse what is too large, and made in time. It never fails,
// but returns a connection that does: where dials fail go-redis starts a goroutine that
// dials on, and outlives its client for a second or more.
func bounded(dial dial) dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		conn, err := inTime(ctx, func() (net.Conn, error) { return dial(ctx, network, addr) })
		if err != nil {
			return newFailedConn(err), nil
		}
		return &boundedConn{Conn: conn}, nil
	}
}

// A failedConn is a connection that could not be made. Whatever uses it learns why.
type failedConn struct {
	net.Conn // a closed one

	err error
}

// newFailedConn returns a connection that fails with err, and needs no closing.
func newFailedConn(err error) *failedConn {
	closed, _ := net.Pipe()
	_ = closed.Close()
	return &failedConn{closed, err}
}

func (c *failedConn) Read([]byte) (int, error)         { return 0, c.err }
func (c *failedConn) Write([]byte) (int, error)        { return 0, c.err }
func (c *failedConn) SetDeadline(time.Time) error      { return c.err }
func (c *failedConn) SetReadDeadline(time.Time) error  { return c.err }
func (c *failedConn) SetWriteDeadline(time.Time) error { return c.err }

// inTime waits for a connection until the context ends. That of go-redis over TLS heeds
// none, but goes by the limit of the client that it was made for. What comes too late is
// closed.
func inTime(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	made := make(chan result, 1)
	go func() {
		conn, err := dial()
		made <- result{conn, err}
	}()
	select {
	case r := <-made:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-made; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}
