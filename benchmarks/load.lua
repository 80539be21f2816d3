-- What wrk sends, and what it prints of the answers: wrk ... --script load.lua URL -- [BODY]
-- With a body the request is a POST of JSON, without one a GET.

function init(arguments)
    if arguments[1] then
        wrk.method = 'POST'
        wrk.body = arguments[1]
        wrk.headers['Content-Type'] = 'application/json'
    end
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "errors": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
        e.connect + e.read + e.write + e.status + e.timeout
    ))
end
