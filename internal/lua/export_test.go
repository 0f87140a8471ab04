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

// Busy returns how many children run a call.
func (p *Pool) Busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.busy)
}

// PIDs returns the ids of the children.
func (p *Pool) PIDs() (ids []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		ids = append(ids, c.p.Pid)
	}
	for c := range p.busy {
		ids = append(ids, c.p.Pid)
	}
	return ids
}
