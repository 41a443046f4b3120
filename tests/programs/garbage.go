// Truth: main.main > main.fill builds maps of strings and drops them: samples in runtime.mapassign…, runtime.mallocgc and,
// on threads of the runtime, in runtime.gcBgMarkWorker. Prints "collections NUMBER".
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

//go:noinline
func fill(size int) map[string][]byte {
	filled := map[string][]byte{}
	for i := 0; i < size; i++ {
		filled[strconv.Itoa(i)] = make([]byte, 64)
	}
	return filled
}

func main() {
	seconds := 1.0
	if len(os.Args) > 1 {
		seconds, _ = strconv.ParseFloat(os.Args[1], 64)
	}
	end := time.Now().Add(time.Duration(seconds * 1e9))
	entries := 0
	fmt.Println("ready")
	for seconds == 0 || time.Now().Before(end) {
		entries += len(fill(20000))
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("collections", stats.NumGC)
}
