// Package storm is a simulation of retry storms and of small incidents, in virtual
// time and with the real chain: see its tests. README.md has the tables and the
// picture.
package storm
