// Package batch is a simulation of batches of calls behind a rate limit, in
// virtual time, with fixed seeds and the real chain: see its tests.
package batch
