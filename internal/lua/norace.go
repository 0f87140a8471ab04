//go:build !race

package lua

const underRace = false
