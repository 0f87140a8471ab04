package lua

import "time"

// UnderRace reports whether children have no limit of memory.
const UnderRace = underRace

// Waiting returns how many calls wait for a child.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// SetBounds makes the bounds of a call smaller.
func (p *Pool) SetBounds(cpu, clock time.Duration) { p.bounds = bounds{cpu, clock} }
