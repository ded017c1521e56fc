# What the scripts of this folder share. They load it with `. "$PSScriptRoot\common.ps1"`, so that
# -WhatIf and -Confirm of a script hold here, too.
#
# Windows PowerShell 5.1 and PowerShell 7. Output of Windows' tools is shown, never read: it is in
# the language of the system. Decisions rest on exit codes, the registry and files.

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# The packages: INF, its service, and the setup class of its devices.
$ParscanPackages = @(
    [pscustomobject]@{ Role = 'Port'; Inf = 'parscan_lpt'; Service = 'ParscanPort'; Class = 'Ports' }
    [pscustomobject]@{ Role = 'Scanner'; Inf = 'parscan_usb'; Service = 'ParscanScan'; Class = 'Image' }
)

# Exit codes of pnputil that are no failure (Microsoft's page "PnPUtil return values").
$Success = 0
$NoBetterDriver = 259
$RestartNeeded = 3010
$RestartStarted = 1641

function Assert-Administrator {
    if ($WhatIfPreference) { return }
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = [Security.Principal.WindowsPrincipal]::new($identity)
    if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
        throw 'Start this from a PowerShell that runs as administrator, or add -WhatIf to see what it would do.'
    }
}

# Runs a program and gives its exit code; stops if that is not accepted. With -WhatIf it is only
# shown, and the code is 0.
function Invoke-Native {
    [CmdletBinding(SupportsShouldProcess)]
    param(
        [Parameter(Mandatory)] [string] $Program,
        [string[]] $Arguments = @(),
        [int[]] $Accept = @(0)
    )
    if (-not $PSCmdlet.ShouldProcess("$Program $Arguments", 'Run')) { return $Success }
    & $Program @Arguments | Out-Host
    $code = $LASTEXITCODE
    if ($Accept -notcontains $code) { throw "$Program $Arguments ended with exit code $code" }
    if ($code -eq $RestartNeeded -or $code -eq $RestartStarted) {
        Write-Warning 'Windows wants a restart to finish this.'
    }
    return $code
}

# The packages of parscan in the driver store: role, INF, and the name that Windows gave it
# (oemN.inf). Found by the name of the catalog in %windir%\INF\oem*.inf.
function Get-ParscanPackage {
    param([string] $Role = '*')
    foreach ($package in $ParscanPackages | Where-Object { $_.Role -like $Role }) {
        $pattern = '^\s*CatalogFile\s*=\s*' + $package.Inf + '\.cat\s*$'
        Get-ChildItem -Path "$env:windir\INF" -Filter 'oem*.inf' |
            Where-Object { Select-String -LiteralPath $_.FullName -Pattern $pattern -Quiet } |
            ForEach-Object {
                [pscustomobject]@{ Role = $package.Role; Inf = $package.Inf; Published = $_.Name }
            }
    }
}

# A property of a device; $null if it has none.
function Get-DeviceProperty {
    param([Parameter(Mandatory)] [string] $InstanceId, [Parameter(Mandatory)] [string] $Key)
    (Get-PnpDeviceProperty -InstanceId $InstanceId -KeyName $Key).Data
}

# Present devices that a package is for: parallel ports by their hardware ID, or image devices.
function Get-ParscanDevice {
    param([Parameter(Mandatory)] [ValidateSet('Port', 'Scanner')] [string] $Role)
    $class = ($ParscanPackages | Where-Object { $_.Role -eq $Role }).Class
    foreach ($device in Get-PnpDevice -PresentOnly -Class $class -ErrorAction SilentlyContinue) {
        $ids = @(Get-DeviceProperty $device.InstanceId 'DEVPKEY_Device_HardwareIds')
        if ($Role -eq 'Port' -and -not ($ids -match '^ACPI\\(VEN_PNP&DEV_|PNP)040[01]$')) { continue }
        [pscustomobject]@{
            InstanceId = $device.InstanceId
            Name       = $device.FriendlyName
            Status     = $device.Status
            Service    = Get-DeviceProperty $device.InstanceId 'DEVPKEY_Device_Service'
            Inf        = Get-DeviceProperty $device.InstanceId 'DEVPKEY_Device_DriverInfPath'
            Version    = Get-DeviceProperty $device.InstanceId 'DEVPKEY_Device_DriverVersion'
        }
    }
}

# Deletes the packages of a role; their devices go to the next best driver. True if there was one.
function Remove-ParscanPackage {
    [CmdletBinding(SupportsShouldProcess)]
    param([string] $Role = '*')
    $packages = @(Get-ParscanPackage -Role $Role)
    foreach ($package in $packages) {
        # Not /force: Windows refuses it for packages that run from the driver store.
        $null = Invoke-Native pnputil.exe @('/delete-driver', $package.Published, '/uninstall') `
            -Accept $Success, $RestartNeeded, $RestartStarted
    }
    return $packages.Count -ne 0
}
