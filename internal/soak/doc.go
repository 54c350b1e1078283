// Package soak is a soak test of the whole chain, over real connections and
// with a provider that fails in all ways: see TestSoak.
package soak
