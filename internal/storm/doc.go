// Package storm is a simulation of retry storms, in virtual time and with the
// real chain: see its tests. README.md has the table and the picture.
package storm
