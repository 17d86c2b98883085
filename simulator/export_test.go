package simulator

// ForTestViberWebhook pretends that a webhook was set, where no socket can be.
func (s *Simulator) ForTestViberWebhook(a *ViberAccount) {
	a.mu.Lock()
	a.url, a.events = "http://127.0.0.1:1/", nil
	a.mu.Unlock()
}

// ForTestRefill applies changed options as the control API does.
func (s *Simulator) ForTestRefill(a *ViberAccount) { a.changed() }
