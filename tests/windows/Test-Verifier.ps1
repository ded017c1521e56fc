<#
.SYNOPSIS
Runs parscan under Driver Verifier: five stages, each with its rules.

.DESCRIPTION
A stage is armed, the machine restarted, and the stage run:

  1  the standard rules
  2  those, invariant MDLs, memory integrity, IRQL of Io, Rtl and Zw calls, and driver isolation
     (rule classes 33, 35 and 36 need Windows 11)
  3  I/O verification with requests that are forced to pend
  4  systematic failure of calls, one for every call stack (Windows 11; needs no restart)
  5  calls that fail at random

Running a stage repeats the command lines of scenarios.txt with parscanctl, restarts the devices
between the rounds, and at the end shows what Verifier counted. A broken rule stops the machine with
a bug check (0xC4, 0xC9 ...): it restarts, and Verifier is off then (boot mode
resetonunusualshutdown). Get-ParscanLog.ps1 collects what is left of it.

Only for a test machine: every stage can make it crash or lose data.

.PARAMETER Stage
1 to 5.

.PARAMETER Arm
Sets the stage's rules for parscan.sys.

.PARAMETER Run
Runs the scenarios and reports.

.PARAMETER Reset
Turns Driver Verifier off, for all drivers.

.PARAMETER ParscanCtl
Path of parscanctl.exe.

.PARAMETER Rounds
How often the scenarios run.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Stage 1 -Arm -WhatIf

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Stage 1 -Run -ParscanCtl C:\tools\parscanctl.exe -Rounds 50

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Verifier.ps1 -Reset
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory, ParameterSetName = 'Arm')]
    [Parameter(Mandatory, ParameterSetName = 'Run')]
    [ValidateRange(1, 5)] [int] $Stage,
    [Parameter(Mandatory, ParameterSetName = 'Arm')] [switch] $Arm,
    [Parameter(Mandatory, ParameterSetName = 'Run')] [switch] $Run,
    [Parameter(Mandatory, ParameterSetName = 'Reset')] [switch] $Reset,
    [Parameter(Mandatory, ParameterSetName = 'Run')] [string] $ParscanCtl,
    [Parameter(ParameterSetName = 'Run')] [ValidateRange(1, 100000)] [int] $Rounds = 10
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

# Of verifier.exe: 0, or 2 when a restart is needed.
$changed = 0, 2

# Rule classes. 1 special pool, 2 IRQL, 4 pool tracking, 5 I/O, 6 deadlocks, 8 DMA, 9 security,
# 12 miscellaneous, 18 DDI compliance: the standard ones. 14, 15 invariant MDLs, 26 code integrity,
# 33 isolation, 35 additional IRQL, 36 DIF; 10 force pending, 3 random and 19 systematic failures.
$arguments = @{
    1 = @('/standard')
    2 = @('/rc') + @(1, 2, 4, 5, 6, 8, 9, 12, 14, 15, 18, 26, 33, 35, 36)
    3 = @('/rc', 5, 10)
    4 = @('/dif', 19, '/now')
    5 = @('/rc', 3)
}

function Restart-Device {
    [CmdletBinding(SupportsShouldProcess)]
    param()
    foreach ($role in 'Port', 'Scanner') {
        $service = ($ParscanPackages | Where-Object { $_.Role -eq $role }).Service
        foreach ($device in Get-ParscanDevice -Role $role | Where-Object { $_.Service -eq $service }) {
            $null = Invoke-Native pnputil.exe @('/restart-device', $device.InstanceId) `
                -Accept $Success, $RestartNeeded
        }
    }
}

switch ($PSCmdlet.ParameterSetName) {
    'Arm' {
        $null = Invoke-Native verifier.exe ($arguments[$Stage] + @('/driver', 'parscan.sys')) -Accept $changed
        if ($Stage -eq 4) {
            $null = Invoke-Native verifier.exe @('/faultssystematic', 'enableruntime') -Accept $changed
        }
        $null = Invoke-Native verifier.exe @('/bootmode', 'resetonunusualshutdown') -Accept $changed
        Write-Output "Restart, then: .\Test-Verifier.ps1 -Stage $Stage -Run -ParscanCtl ..."
    }
    'Reset' {
        $null = Invoke-Native verifier.exe @('/reset') -Accept $changed
    }
    'Run' {
        if (-not (Test-Path -LiteralPath $ParscanCtl)) { throw "$ParscanCtl is not there." }
        $null = Invoke-Native verifier.exe @('/query') -Accept $changed
        $lines = Get-Content -LiteralPath "$PSScriptRoot\scenarios.txt" |
            Where-Object { $_ -and -not $_.StartsWith('#') }
        $results = @{}
        for ($round = 1; $round -le $Rounds; $round++) {
            foreach ($line in $lines) {
                if (-not $PSCmdlet.ShouldProcess("parscanctl $line", "Round $round")) { continue }
                $words = $line -split ' '
                & $ParscanCtl @words | Out-Null
                $key = "${line}: exit code $LASTEXITCODE"
                $results[$key] = 1 + $(if ($results.ContainsKey($key)) { $results[$key] } else { 0 })
            }
            Restart-Device
        }
        # A request may fail: with stages 4 and 5 it has to, now and then. What counts is that the
        # machine still stands and that Verifier has nothing to say.
        $results.GetEnumerator() | Sort-Object -Property Name | Format-Table -AutoSize
        $null = Invoke-Native verifier.exe @('/query') -Accept $changed
    }
}
