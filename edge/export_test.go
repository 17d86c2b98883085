package edge

// Held is how many bytes of webhook bodies are in memory.
func (e *Edge) Held() int64 { return e.held.used.Load() }
