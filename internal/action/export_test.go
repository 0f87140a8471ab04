package action

// MaxPlans is how many plans a Runner keeps.
const MaxPlans = maxPlans

// Plans returns how many plans are kept.
func (r *Runner) Plans() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.plans)
}
