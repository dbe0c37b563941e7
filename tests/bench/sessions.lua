-- For wrk: sessions with idempotency keys that nobody used before.
local number = 0

function setup(thread)
    thread:set("run", os.time())
end

function init(arguments)
    wrk.method = "POST"
    wrk.body = "customer=cus_1&configuration=bpc_bench&return_url=https%3A%2F%2Fapp.example.com%2Fdashboard"
    wrk.headers["Authorization"] = "Bearer " .. arguments[1]
    wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
    number = number + 1
    wrk.headers["Idempotency-Key"] = "wrk:" .. run .. ":" .. number
    return wrk.format()
end

function done(summary, latency)
    local errors = summary.errors
    local wrong = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('{"rate": %.1f, "errors": %d}\n', summary.requests * 1e6 / summary.duration, wrong))
end
