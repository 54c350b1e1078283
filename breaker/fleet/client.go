package fleet

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// connections is how many a private client may have besides its subscription's. It
// uses one, as long as that works.
const connections = 2

// privateOf returns a client of ours for what client is connected to. Of a kind that
// is not known there is none: then it returns client itself, and false.
func privateOf(client redis.UniversalClient) (private redis.UniversalClient, ok bool) {
	switch client := client.(type) {
	case *redis.Client:
		opt := *client.Options()
		opt.Dialer = bounded(opt.Dialer)
		opt.ContextTimeoutEnabled = true
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = limit, limit, limit, limit
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = connections, 0, 1, 0
		opt.MaxRetries = 1 // the connection may have been closed meanwhile
		opt.Limiter = nil
		return redis.NewClient(&opt), true
	case *redis.ClusterClient:
		opt := *client.Options()
		opt.Dialer = bounded(dialer(opt))
		opt.ContextTimeoutEnabled = true
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = limit, limit, limit, limit
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = connections, 0, 1, 0
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

// bounded has connections refuse what is too large, and made in time: a dialer that
// is copied goes by the limits that it was made with.
func bounded(dial dial) dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &boundedConn{Conn: conn}, nil
	}
}
