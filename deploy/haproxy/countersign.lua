-- Asks the agent about a request: may this certificate use the model now? The answer's status and code are left in
-- txn.countersign_status and txn.countersign_code; 204 permits. No answer leaves 503.
local authz = os.getenv("COUNTERSIGN_AUTHZ")
-- The agent asks the service at most two seconds.
local TIMEOUT_MS = 3000
-- Headers of the request that the agent looks at beside the certificate; those that the configuration took away or set.
local PASSED_ON = { "x-model", "x-place", "x-countersign-probe" }

core.register_action("countersign", { "http-req" }, function(txn)
    txn:set_var("txn.countersign_status", 503)
    txn:set_var("txn.countersign_code", "STATE_UNAVAILABLE")
    local der = txn.f:ssl_c_der()
    if not der or der == "" then
        return
    end
    local headers = { ["x-ssl-client-cert"] = { txn.c:base64(der) } }
    local received = txn.http:req_get_headers()
    for _, name in ipairs(PASSED_ON) do
        if received[name] then
            local values = {}
            -- All of them: the agent believes none of a header that is there twice.
            for index = 0, #received[name] do
                values[index + 1] = received[name][index]
            end
            headers[name] = values
        end
    end
    local answer = core.httpclient():get { url = authz, headers = headers, timeout = TIMEOUT_MS }
    if answer and (answer.status == 204 or answer.status == 403) then
        txn:set_var("txn.countersign_status", answer.status)
    end
    local code = answer and answer.headers and answer.headers["x-countersign-code"]
    if code then
        txn:set_var("txn.countersign_code", code[0])
    end
end)
