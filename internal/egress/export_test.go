package egress

// SetBackstop makes f judge what the rules let through, so that a test that
// expects a refusal sends no packet when it is wrong.
func (c *Client) SetBackstop(f func(address string) error) { c.backstop = f }
