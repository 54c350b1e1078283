package retry

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of a [Budget], as the AWS SDKs have them. A full bucket pays for
// 100 retries. In an outage that lasts, the refill leaves one retry every five
// seconds.
const (
	DefaultBudgetTokens = 500 // the most a bucket holds, and what it begins with
	DefaultBudgetRefill = 1   // tokens a second
)

const (
	retryCost   = 5 // of a retry after a failure
	hintedCost  = 1 // of a retry that the server asked for with a 429, or that is held back
	successGain = 1 // paid in by a first attempt that succeeds
)

// What a Budget remembers is bounded: redirects let a provider choose hosts.
const (
	maxBuckets   = 1024
	maxBudgetKey = 1 << 10 // bytes of a key that tell one bucket from another
)

// Unlimited is the [Budget] that never runs out: it turns the limit off.
var Unlimited = &Budget{unlimited: true}

// A Budget limits retries by token buckets, one for each host or whatever
// [Config.BudgetKey] names. Single failures are retried without a thought; in an
// outage, where every call fails, retries would multiply the load, and the bucket
// runs empty.
//
// A retry after a failure costs 5 tokens. One that a 429 asked for with a hint, or
// that a layer below holds back for a rate limit, costs 1. The tokens are taken before
// the wait. The retry gets them back if it succeeds or is never sent. A first attempt
// that succeeds pays in 1. When a bucket is empty there are no retries; first attempts
// always go.
//
// The zero value has no tokens: it allows no retries. A Budget is safe for
// concurrent use and may be shared by Transports. It keeps 1024 buckets.
type Budget struct {
	unlimited bool
	capacity  float64
	refill    float64

	count   atomic.Int64 // of buckets: as long as nothing failed, no lock is taken
	mu      sync.Mutex
	buckets map[string]*bucket
}

// A bucket is filled when it is looked at: no timer runs for it.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right
}

// NewBudget returns a [Budget] whose buckets hold at most tokens, begin full and
// gain refill tokens a second. Negative numbers and NaN count as 0; without
// tokens there are no retries.
func NewBudget(tokens, refill float64) *Budget {
	return &Budget{capacity: notNegative(tokens), refill: notNegative(refill)}
}

// notNegative returns n, or 0 for what can't be a number of tokens. A Budget never
// fails: it is made before there is a Transport that could say so.
func notNegative(n float64) float64 {
	if n > 0 {
		return n
	}
	return 0 // NaN compares with nothing
}

// reserve takes cost tokens of the bucket, if it has them. A bucket is made at the first
// retry: a service whose calls succeed has none.
func (b *Budget) reserve(key string, cost float64, now time.Time) bool {
	if b.unlimited {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.buckets[key]
	if k == nil {
		b.makeRoom(now)
		k = &bucket{tokens: b.capacity, at: now}
		if b.buckets == nil {
			b.buckets = make(map[string]*bucket)
		}
		b.buckets[strings.Clone(key)] = k // a part of a URL would keep all of it
		b.count.Store(int64(len(b.buckets)))
	}
	b.flow(k, now)
	if k.tokens < cost {
		return false
	}
	k.tokens -= cost
	return true
}

// pay puts tokens into the bucket, up to its capacity. A bucket that does not exist is
// full.
func (b *Budget) pay(key string, tokens float64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.buckets[key]; k != nil {
		b.flow(k, now)
		k.tokens = min(k.tokens+tokens, b.capacity)
	}
}

// idle reports whether every bucket is full for certain, as they are where no
// retry was ever made. Nothing need be paid in then.
func (b *Budget) idle() bool { return b.unlimited || b.count.Load() == 0 }

// flow adds what has flowed in since the bucket was last looked at. No goroutine fills
// the buckets. A clock that has gone back adds nothing.
func (b *Budget) flow(k *bucket, now time.Time) {
	if since := now.Sub(k.at); since > 0 {
		k.tokens = min(k.tokens+since.Seconds()*b.refill, b.capacity)
		k.at = now
	}
}

// makeRoom forgets full buckets once there are too many, and if none is full,
// the fullest: it errs towards allowing a retry.
func (b *Budget) makeRoom(now time.Time) {
	if len(b.buckets) < maxBuckets {
		return
	}
	fullest, most := "", -1.0
	for key, k := range b.buckets {
		b.flow(k, now)
		if k.tokens >= b.capacity {
			delete(b.buckets, key)
		} else if k.tokens > most {
			fullest, most = key, k.tokens
		}
	}
	if len(b.buckets) >= maxBuckets {
		delete(b.buckets, fullest)
	}
}
